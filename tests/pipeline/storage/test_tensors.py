"""Files of tensors: a damaged one is never loaded, and what old commits wrote is still read."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from pipeline.storage.tensors import checksum, read_tensors, write_tensors

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2])}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "file.safetensors")
    write_tensors(path, TENSORS, {"epoch": "3", "about": "x"}, checked="epoch")
    file = read_tensors(path, checked="epoch")
    assert file is not None
    assert (file.metadata["epoch"], file.metadata["about"]) == ("3", "x")
    assert {name: tensor.tolist() for name, tensor in file.tensors.items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }


def test_no_file_is_none(tmp_path: Path) -> None:
    assert read_tensors(str(tmp_path / "none.safetensors")) is None


@pytest.mark.parametrize("place", ["first", "header", "middle", "last", "cut", "empty"])
def test_a_damaged_file_is_none(tmp_path: Path, place: str) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(str(path), TENSORS, {"epoch": "3"}, checked="epoch")
    data = bytearray(path.read_bytes())
    at = {"first": 0, "header": 12, "middle": len(data) - 20, "last": len(data) - 1}
    if place in at:
        data[at[place]] ^= 0x41
    path.write_bytes(bytes(data) if place in at else bytes(data[: {"cut": len(data) - 5, "empty": 0}[place]]))
    assert read_tensors(str(path), checked="epoch") is None


def test_the_checksum_covers_the_text_that_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "file.safetensors")
    Path(path).write_bytes(save(TENSORS, {"epoch": "4", "sha256": checksum(TENSORS, "3")}))
    assert read_tensors(path, checked="epoch") is None
    Path(path).write_bytes(save(TENSORS, {"epoch": "3", "sha256": checksum(TENSORS, "3")}))
    assert read_tensors(path, checked="epoch") is not None
    assert read_tensors(path) is None  # written with a text, read without it


def test_a_file_without_metadata_is_none(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(save(TENSORS))
    assert read_tensors(str(path)) is None


def test_the_checksum_is_that_of_old_commits() -> None:
    """A change here would refuse every checkpoint that is stored."""
    assert checksum(TENSORS, "3") == "6246192e6d32654e2ed693e5a1732aef7b1df6ee3479132cfb4f5219f1b2969a"
