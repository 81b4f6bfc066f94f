"""Search spaces: the default, files, and one line that names the key for every mistake in a file."""

import re
from pathlib import Path

import pytest

from pipeline.config.parsing import with_settings
from pipeline.config.presets import PRESETS, preset
from pipeline.errors import UserError
from pipeline.tune.space import Domain, Space, configured, default_space
from pipeline.tune.space_file import space_of_file
from tests.pipeline.support.runs import small_config

DOCUMENTATION = Path(__file__).resolve().parents[3] / "docs/tuning.md"


def from_text(tmp_path: Path, text: str, *settings: str, name: str = "space.yaml") -> Space:
    """The space of a file with this text."""
    path = tmp_path / name
    path.write_text(text)
    return space_of_file(str(path), small_config(*settings))


@pytest.mark.parametrize("searcher", ["optuna", "grid"])
@pytest.mark.parametrize("name", PRESETS)
def test_the_default_space_holds_the_given_configuration(name: str, searcher: str) -> None:
    config = with_settings(preset(name), [f"tune.searcher={searcher}"])
    space = default_space(config)
    assert all(domain.holds(space.start[key]) for key, domain in space.domains.items())
    # A preset does not give the learning rate; it follows from the images per class.
    assert configured(config, space.start).condense.learning_rate == config.condense.images_per_class


def test_the_learning_rate_is_relative_to_the_images_per_class() -> None:
    one, ten = (default_space(preset(f"digits_ipc{n}")).domains["condense.learning_rate"] for n in (1, 10))
    assert (ten.low, ten.high) == (10 * one.low, 10 * one.high)
    assert one.kind == "loguniform"


def test_a_given_value_outside_the_default_space_widens_it() -> None:
    config = small_config("kernel.bandwidth_multiplier=100", "condense.batch_real=17", "kernel.name=laplace")
    space = default_space(config)
    assert space.domains["kernel.bandwidth_multiplier"].high == 100
    assert 17 in space.domains["condense.batch_real"].values
    assert "laplace" in space.domains["kernel.name"].values


def test_a_given_zero_is_refused_in_a_loguniform_range(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"condense\.momentum: given 0\.0, but loguniform needs one above 0"):
        from_text(tmp_path, "condense.momentum: {loguniform: [0.1, 0.9]}", "condense.momentum=0")


def test_a_file_in_yaml_and_in_json(tmp_path: Path) -> None:
    text = """
kernel.bandwidth_multiplier: {loguniform: [1e-1, 1.0e+1]}
condense.learning_rate: {loguniform: [0.1, 10], relative: true}
condense.batch_real: {uniform: [8, 64]}
augment.strategy: {grid: [none, color_crop]}
kernel.scales: {choice: [3, 5]}
kernel.scale_factor: {choice: [1.5, 2e0]}
"""
    space = from_text(tmp_path, text, "condense.images_per_class=4")
    domains = space.domains
    assert domains["kernel.bandwidth_multiplier"] == Domain(kind="loguniform", low=0.1, high=10)
    assert (domains["condense.learning_rate"].low, domains["condense.learning_rate"].high) == (0.4, 40)
    assert domains["condense.batch_real"] == Domain(kind="uniform", low=8, high=64, whole=True)
    assert domains["augment.strategy"].values == ("none", "color_crop", "color_crop_cutout")  # the given one too
    assert domains["kernel.scale_factor"].values == (1.5, 2.0)  # YAML reads 2e0 as text
    same = from_text(tmp_path, '{"kernel.scales": {"choice": [3, 5]}}', name="space.json")
    assert same.domains == {"kernel.scales": domains["kernel.scales"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernel.bandwith_multiplier: {loguniform: [1, 2]}", "did you mean 'kernel.bandwidth_multiplier'"),
        ("learning_rate: {loguniform: [1, 2]}", "did you mean 'condense.learning_rate'"),
        ("condense.iterations: {choice: [1, 2]}", "is not searched"),
        ("evaluate.epochs: {choice: [1, 2]}", "is not searched"),
        ("data.image_size: {choice: [8, 16]}", "is not searched"),
        ("pretrain.epochs: {choice: [1, 2]}", "is not searched"),
        ("storage.attempts: {choice: [1, 2]}", "is not searched"),
        ("kernel.scale_factor: {uniform: [1, 1" + 400 * "0" + "]}", "needed two numbers"),
        ("kernel.scales: {choice: [2021-01-01]}", "needed words, numbers"),
        ("kernel.scales: {normal: [1, 2]}", "uniform, loguniform, choice, grid"),
        ("kernel.scales: [1, 2]", "uniform, loguniform, choice, grid"),
        ("kernel.scales: {choice: []}", "needed a list"),
        ("kernel.scale_factor: {uniform: [3, 2]}", "the smaller first"),
        ("kernel.scale_factor: {uniform: [2, high]}", "needed two numbers"),
        ("kernel.bandwidth_multiplier: {loguniform: [0, 2]}", "needed numbers above 0"),
        ("kernel.scales: {uniform: [1.5, 3]}", "needed integers"),
        ("kernel.scales: {choice: [3, 500]}", "1 to 64"),
        ("kernel.scale_factor: {uniform: [0.5, 3]}", "a number above 1"),
        ("kernel.scales: {choice: [3], relative: true}", "relative is for condense.learning_rate"),
        ("kernel.bandwidth_value: {loguniform: [1, 2]}", "kernel.bandwidth"),
        ("", "holds no settings"),
        ("- kernel.scales", "holds no settings"),
        ("a: [", "neither JSON nor YAML"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_text(tmp_path, text)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        space_of_file(str(tmp_path / "none.yaml"), small_config())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_point_of_a_default_grid_lies_in_its_range(name: str) -> None:
    space = default_space(with_settings(preset(name), ["tune.searcher=grid"]))
    for key, domain in space.domains.items():
        assert all(map(domain.holds, domain.points())), key
        assert (domain.points()[0], domain.points()[-1]) == (domain.low, domain.high)


def test_points_of_a_grid() -> None:
    assert Domain(kind="loguniform", low=1.0, high=16.0).points() == pytest.approx((1, 2, 4, 8, 16))
    assert Domain(kind="uniform", low=1, high=3, whole=True).points() == (1, 2, 3)
    assert Domain(kind="choice", values=("a", "b")).points() == ("a", "b")


def test_the_default_space_is_documented(tmp_path: Path) -> None:
    """A setting that is searched by default is added to ``default_space`` and to this list, and nowhere else."""
    documented = re.search(r"```yaml\n(kernel\.bandwidth_multiplier.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    assert documented is not None
    settings = ("condense.images_per_class=4",)
    assert from_text(tmp_path, documented[1], *settings) == default_space(small_config(*settings))
