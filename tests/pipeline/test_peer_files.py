"""Condensed sets in the files of other projects."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3d import decode, standardise
from pipeline.errors import UserError
from pipeline.peer_files import PeerFile, PeerSet, is_peer, parse, read

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
