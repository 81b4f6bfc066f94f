"""The published lists of classes: lengths, orders, and names that are unknown or ambiguous."""

import pytest

from pipeline.config.imagenet_subsets import names, subset
from pipeline.errors import UserError


def test_every_list_has_its_length_and_no_class_twice() -> None:
    assert len(names()) == 11
    for name in names():
        wnids = [wnid for wnid, _ in subset(name)]
        assert len(wnids) == len(set(wnids)) == (100 if name.startswith("imagenet100") else 10)
    assert subset("imagenet100")[:10] == subset("imagenet10")


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("imagenet10", ("n02869837", "bonnet, poke bonnet"), ("n01773797", "garden spider, Aranea diademata")),
        ("imagenette", ("n01440764", "tench"), ("n03888257", "parachute")),
        ("ImageWoof", ("n02096294", "Australian terrier"), ("n02105641", "Old English sheepdog")),
        ("imagenet-100", ("n02869837", "bonnet, poke bonnet"), ("n02090622", "borzoi, Russian wolfhound")),
        ("imagefruit", ("n07753275", "pineapple"), ("n07742313", "Granny Smith (green apple)")),
        ("imagefruit_dance", ("n07753275", "pineapple, ananas"), ("n07760859", "custard apple")),
    ],
)
def test_published_order(name: str, first: tuple[str, str], last: tuple[str, str]) -> None:
    classes = subset(name)
    assert (classes[0], classes[-1]) == (first, last)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("fruit", "imagefruit or imagefruit_dance"),
        ("imagenet", "imagenet10 or imagenet100 or imagenette or imagenet100_idm"),
        ("imagewof", "did you mean 'imagewoof'"),
        ("", "allowed: imagenet10"),
    ],
)
def test_an_unknown_name_is_refused_with_the_choices(name: str, choices: str) -> None:
    with pytest.raises(UserError, match="given") as caught:
        subset(name)
    assert choices in str(caught.value)
