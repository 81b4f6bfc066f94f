"""Condensed sets in the files of other projects."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3d import decode, standardise
from pipeline.config.run_config import Data
from pipeline.errors import UserError
from pipeline.formats.peer_files import PeerFile, PeerSet, is_peer, parse, read
from pipeline.formats.peer_moments import published_moments

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
NORMALISED = standardise(IMAGES, MEAN, STD)
LABELS = torch.tensor([0, 0, 1, 1])


def saved(tmp_path: Path, content: Any, name: str = "data.pt") -> str:
    torch.save(content, tmp_path / name)
    return str(tmp_path / name)


def told(given: str, classes: int = 2) -> PeerSet:
    return read(parse(given), shape=(3, 8, 8), classes=classes, moments=(MEAN, STD))


@pytest.mark.parametrize("layout", ["idc", "ncfm"])
@pytest.mark.parametrize("factor", [1, 2])
def test_stored_images_are_decoded_and_normalised(tmp_path: Path, layout: str, factor: int) -> None:
    path = saved(tmp_path, [IMAGES, LABELS])
    found = told(f"{path}:{layout}:factor={factor}")
    expected = standardise(decode(IMAGES[:, None], factor).flatten(0, 1), MEAN, STD)
    torch.testing.assert_close(found.images, expected)
    assert found.labels.tolist() == [label for label in (0, 0, 1, 1) for _ in range(factor**2)]
    assert (found.stored, found.mean, found.std) == (4, MEAN, STD)


def test_dc_takes_the_last_pair_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path, {"data": [[IMAGES * 0, LABELS], [NORMALISED, LABELS]], "accs_all_exps": {"ConvNet": [30.5]}})
    assert torch.equal(told(f"{path}:dc").images, NORMALISED)


def test_dc_with_numpy_accuracies_is_read(tmp_path: Path) -> None:
    accuracies = {"ConvNet": [np.float64(30.5), np.float32(2)]}
    path = saved(tmp_path, {"data": [[NORMALISED, LABELS]], "accs_all_exps": accuracies})
    assert torch.equal(told(f"{path}:dc").images, NORMALISED)


def test_mtt_finds_its_labels(tmp_path: Path) -> None:
    path = saved(tmp_path, NORMALISED, "images_best.pt")
    with pytest.raises(UserError, match=r"labels_best\.pt: does not exist"):
        told(f"{path}:mtt")
    saved(tmp_path, LABELS, "labels_best.pt")
    assert torch.equal(told(f"{path}:mtt").images, NORMALISED)
    assert told(f"{path}:mtt").labels.tolist() == [0, 0, 1, 1]


def test_soft_labels_become_hard_ones_and_it_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path, NORMALISED, "images_best.pt")
    saved(tmp_path, torch.tensor([[3.0, 1], [1, 0], [0, 9], [0, 1]]), "labels_best.pt")
    found = told(f"{path}:mtt")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert "hard labels" in found.note


def test_labels_in_a_column_are_no_soft_ones(tmp_path: Path) -> None:
    found = told(saved(tmp_path, [IMAGES, LABELS[:, None]]) + ":idc")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.note == ""


def test_pixels_a_little_outside_are_clamped_and_it_is_said(tmp_path: Path) -> None:
    images = IMAGES.clone()
    images[0, 0, 0] = 1.02
    images[1, 0, 0] = -0.01
    found = told(saved(tmp_path, [images, LABELS]) + ":idc")
    assert torch.equal(found.images, standardise(images.clamp(0, 1), MEAN, STD))
    assert found.note == f"{16 / images.numel():.2%} of the pixels were outside 0 to 1 (-0.01 to 1.02), clamped"


def test_normalised_tiles_are_decoded_as_pixels(tmp_path: Path) -> None:
    found = told(saved(tmp_path, {"data": [[NORMALISED, LABELS]]}) + ":dc:factor=2")
    torch.testing.assert_close(found.images, standardise(decode(IMAGES[:, None], 2).flatten(0, 1), MEAN, STD))


def test_what_a_normalised_file_is_normalised_with_is_said_or_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, {"data": [[NORMALISED, LABELS]]})
    assert told(f"{path}:dc").note == "taken to be normalised with mean 0.5/0.4/0.3 and std 0.2/0.25/0.3"
    file = parse(f"{path}:dc")
    with pytest.raises(UserError, match=r"add :mean=A/B/C:std=A/B/C"):
        read(file, shape=(3, 8, 8), classes=2, moments=None)
    said = parse(f"{path}:dc:mean=0/0/0:std=1/1/1")
    assert read(said, shape=(3, 8, 8), classes=2, moments=None).note == ""


@pytest.mark.parametrize(
    ("layout", "data", "mean"),
    [
        ("dc", Data(name="CIFAR100"), 0.5071),
        ("mtt", Data(name="CIFAR100"), 0.4914),
        ("mtt", Data(name="CIFAR10"), 0.4914),
        ("dc", Data(source="image_folder", subset="imagenette"), 0.485),
    ],
)
def test_published_moments(layout: str, data: Data, mean: float) -> None:
    held = published_moments(layout, data)
    assert held is not None
    assert held[0][0] == mean
    assert published_moments(layout, Data(name="photos")) is None


def test_moments_can_be_said(tmp_path: Path) -> None:
    path = saved(tmp_path, [IMAGES, LABELS])
    found = told(f"{path}:idc:mean=0/0/0:std=1/1/1")
    assert torch.equal(found.images, IMAGES)
    assert (found.mean, found.std) == ((0.0,) * 3, (1.0,) * 3)


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code was run')",))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "data.pt"
    path.write_bytes(pickle.dumps([Evil(), LABELS]))
    with pytest.raises(UserError, match="cannot be read"):
        told(f"{path}:idc")
    torch.save([Evil(), LABELS], path)
    with pytest.raises(UserError, match="cannot be read"):
        told(f"{path}:idc")


@pytest.mark.parametrize("content", [b"", b"\x80\x02R.", b"PK\x03\x04", b"nothing of the kind"])
def test_damaged_files_are_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a file of torch tensors"):
        told(f"{tmp_path / 'a.pt'}:idc")


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
        ([IMAGES, None], "idc", ["labels are no numbers"]),
        ([IMAGES, ["a", "b", "c", "d"]], "idc", ["labels are no numbers"]),
        ([IMAGES, torch.zeros(4, 3)], "idc", ["[4, 3]", "[n, 2]"]),
    ],
)
def test_files_that_are_not_what_they_are_named(tmp_path: Path, content: Any, layout: str, parts: list[str]) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(UserError) as error:
        told(f"{path}:{layout}")
    assert all(part in str(error.value) for part in [path, *parts]), str(error.value)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("a.pt", ["layout", "a.pt:idc:factor=2"]),
        ("a.pt:idcc", ["'idcc'", "did you mean 'idc'"]),
        ("a.pt:idc:factor", ["'factor'", "factor=N"]),
        ("a.pt:idc:factor=two", ["no number"]),
        ("a.pt:idc:factor=0", ["1 to 16"]),
        ("a.pt:dc:std=0/1/1", ["above 0"]),
        ("a.pt:dc:std=nan/1/1", ["finite"]),
        ("a.pt:dc:mean=inf/1/1", ["finite"]),
        ("a.pt:idc:ipc=3", ["'ipc=3'"]),
    ],
)
def test_names_that_are_none(given: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parse(given)
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_names() -> None:
    assert parse("/x/a.pt:idc:factor=2") == PeerFile(path="/x/a.pt", layout="idc", factor=2)
    assert parse("s3://bucket/a.pt:dc").path == "s3://bucket/a.pt"
    assert [is_peer(name) for name in ("a.pt", "a.pth:dc", "runs/a.pt.d")] == [True, True, False]
