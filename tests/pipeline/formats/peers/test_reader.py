"""Files of peers as training images: labels, pixels and moments are checked."""

from pathlib import Path
from typing import Any

import pytest
import torch

from m3d import standardise
from pipeline.errors import UserError
from pipeline.formats.peers import parse, read, read_stored
from tests.pipeline.support.peers import IMAGES, LABELS, MEAN, NORMALISED, STD, read_peer, saved


def test_soft_labels_become_hard_ones_with_a_note(tmp_path: Path) -> None:
    path = saved(tmp_path, NORMALISED, "images_best.pt")
    saved(tmp_path, torch.tensor([[3.0, 1], [1, 0], [0, 9], [0, 1]]), "labels_best.pt")
    peer = read_peer(f"{path}:mtt")
    assert peer.labels.tolist() == [0, 0, 1, 1]
    assert "hard labels" in peer.note


def test_labels_in_a_column_are_hard(tmp_path: Path) -> None:
    peer = read_peer(saved(tmp_path, [IMAGES, LABELS[:, None]]) + ":idc")
    assert peer.labels.tolist() == [0, 0, 1, 1]
    assert peer.note == ""


def test_pixels_slightly_outside_are_clamped_with_a_note(tmp_path: Path) -> None:
    images = IMAGES.clone()
    images[0, 0, 0] = 1.02
    images[1, 0, 0] = -0.01
    peer = read_peer(saved(tmp_path, [images, LABELS]) + ":idc")
    assert torch.equal(peer.images, standardise(images.clamp(0, 1), MEAN, STD))
    assert peer.note == f"{16 / images.numel():.2%} of the pixels were outside 0 to 1 (-0.01 to 1.02), clamped"


def test_moments_of_a_normalised_file_are_noted_or_required(tmp_path: Path) -> None:
    path = saved(tmp_path, {"data": [[NORMALISED, LABELS]]})
    assert read_peer(f"{path}:dc").note == "assumed to be normalised with mean 0.5/0.4/0.3 and std 0.2/0.25/0.3"
    file = parse(f"{path}:dc")
    with pytest.raises(UserError, match=r"add :mean=A/B/C:std=A/B/C"):
        read(file, shape=(3, 8, 8), classes=2, moments=None)
    named = parse(f"{path}:dc:mean=0/0/0:std=1/1/1")
    assert read(named, shape=(3, 8, 8), classes=2, moments=None).note == ""


def test_moments_can_be_given(tmp_path: Path) -> None:
    path = saved(tmp_path, [IMAGES, LABELS])
    peer = read_peer(f"{path}:idc:mean=0/0/0:std=1/1/1")
    assert torch.equal(peer.images, IMAGES)
    assert (peer.mean, peer.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("content", "layout", "parts"),
    [
        ([NORMALISED, LABELS], "idc", ["from 0 to 1", ":dc"]),
        ([IMAGES, LABELS[:2]], "idc", ["4 images and 2 labels"]),
        ([IMAGES, LABELS + 1], "idc", ["2 classes"]),
        ([IMAGES[:, :1], LABELS], "idc", ["[1, 8, 8]", "[3, 8, 8]"]),
        ({"data": []}, "dc", ["layout dc"]),
        ([IMAGES, LABELS], "dc", ["layout dc"]),
        (IMAGES, "ncfm", ["layout ncfm"]),
        ([IMAGES / 0, LABELS], "idc", ["not finite"]),
        ([IMAGES, None], "idc", ["labels are not numbers"]),
        ([IMAGES, ["a", "b", "c", "d"]], "idc", ["labels are not numbers"]),
        ([IMAGES, torch.zeros(4, 3)], "idc", ["[4, 3]", "[n, 2]"]),
    ],
)
def test_files_of_another_content_are_refused(tmp_path: Path, content: Any, layout: str, parts: list[str]) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(UserError) as error:
        read_peer(f"{path}:{layout}")
    assert all(part in str(error.value) for part in [path, *parts]), str(error.value)


# As it is stored


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (LABELS, [0, 0, 1, 1]),
        (LABELS[:, None], [0, 0, 1, 1]),
        ([0, 0, 1, 1], [0, 0, 1, 1]),
        (torch.eye(3)[LABELS], [0, 0, 1, 1]),
        ([[0.9, 0.1]] * 2 + [[0.2, 0.8]] * 2, [0, 0, 1, 1]),
    ],
)
def test_stored_images_without_a_known_number_of_classes(tmp_path: Path, labels: Any, expected: list[int]) -> None:
    stored = read_stored(parse(saved(tmp_path, [IMAGES, labels]) + ":idc"), classes=None)
    assert torch.equal(stored.images, IMAGES)
    assert stored.labels.tolist() == expected


def test_stored_images_are_no_longer_normalised(tmp_path: Path) -> None:
    path = saved(tmp_path, {"data": [[NORMALISED, LABELS]]})
    stored = read_stored(parse(f"{path}:dc:mean=0.5/0.4/0.3:std=0.2/0.25/0.3"), classes=2)
    assert torch.allclose(stored.images, IMAGES, atol=1e-6)
    assert stored.notes == ()
    with pytest.raises(UserError, match="its moments are not known"):
        read_stored(parse(f"{path}:dc"), classes=2)
