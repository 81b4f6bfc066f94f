"""Files of peers that claim more than they hold."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from tests.pipeline.support.peers import IMAGES, LABELS, read_peer, saved


def archive(change: Callable[[str, bytes], bytes] = lambda name, data: data, kind: int = zipfile.ZIP_STORED) -> bytes:
    """A valid file with each member changed and stored or compressed."""
    buffer, written = io.BytesIO(), io.BytesIO()
    torch.save([IMAGES, LABELS], buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(written, "w", kind) as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return written.getvalue()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_both_forms_of_torch_are_read(tmp_path: Path, new: bool) -> None:
    torch.save([IMAGES, LABELS], tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert read_peer(f"{tmp_path / 'a.pt'}:idc").labels.tolist() == LABELS.tolist()
    (tmp_path / "b.pt").write_bytes(archive())
    assert read_peer(f"{tmp_path / 'b.pt'}:idc").labels.tolist() == LABELS.tolist()


CONTENT: dict[str, tuple[Callable[[], Any], str]] = {
    "expanded": (lambda: torch.zeros(1).expand(10**9, 3, 8, 8), "larger than its storage"),
    "sparse": (
        lambda: torch.sparse_coo_tensor(
            torch.zeros(4, 1, dtype=torch.int64), torch.ones(1), (10**6, 3, 10**4, 8), check_invariants=True
        ),
        "_rebuild_sparse_tensor",
    ),
    "meta": (lambda: torch.empty(10**9, 3, 8, 8, device="meta"), "_rebuild_meta_tensor"),
    "bytearray": (lambda: bytearray(9), "bytearray"),
    "complex": (lambda: IMAGES.to(torch.complex64), "ComplexFloatStorage"),
    "module": (lambda: torch.nn.Linear(1, 1), "NEWOBJ"),
    "numpy": (lambda: np.zeros(3), "_reconstruct"),
}


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", CONTENT)
def test_what_is_no_plain_tensor_is_refused(tmp_path: Path, name: str, new: bool) -> None:
    make, message = CONTENT[name]
    torch.save([make(), LABELS], tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match=rf"cannot be read as a file of torch tensors \(.*{message}"):
        read_peer(f"{tmp_path / 'a.pt'}:idc")


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(archive(kind=zipfile.ZIP_DEFLATED))
    with pytest.raises(UserError, match="compressed members"):
        read_peer(f"{tmp_path / 'a.pt'}:idc")


def test_a_storage_that_the_file_does_not_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(archive(lambda name, data: data[:16] if name.endswith("data/0") else data))
    with pytest.raises(UserError, match=r"a storage of 3072 bytes, of which 16 are in the file"):
        read_peer(f"{tmp_path / 'a.pt'}:idc")


def test_an_old_file_claims_no_more_than_it_has(tmp_path: Path) -> None:
    torch.save([IMAGES, LABELS], tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pt").read_bytes()
    assert data.count(b"M\x00\x03") == 1  # BININT2 of 768 numbers
    (tmp_path / "a.pt").write_bytes(data.replace(b"M\x00\x03", b"J\xff\xff\xff\x7f"))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"storages of 85\d+ bytes in a file of \d+"):
        read_peer(f"{tmp_path / 'a.pt'}:idc")
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((4, 2), float("nan")), "not finite"),
        (torch.tensor([0.0, 1.0, float("inf"), 0.0]), "not finite"),
        (LABELS + 0.5, "not whole numbers"),
        ([0, 0.25, 1, 1], "not whole numbers"),
        ([0, float("nan"), 1, 1], "not finite"),
        ([[[0]] * 1000] * 4, "not numbers"),
        ([[0, 1, 0]] * 4, r"shape \[4, 3\]"),
        (LABELS.double() * 1e300, "not those of 2 classes"),
        ([10**30, 0, 0, 0], "not numbers"),
        ([True, None, 1, 1], "not numbers"),
    ],
)
def test_labels_that_are_no_labels(tmp_path: Path, labels: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_peer(saved(tmp_path, [IMAGES, labels]) + ":idc")


def test_ties_of_soft_labels_are_reported(tmp_path: Path) -> None:
    soft = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.5, 0.5], [1, 0]])
    peer = read_peer(saved(tmp_path, [IMAGES, soft]) + ":idc")
    assert peer.labels.tolist() == [0, 1, 0, 0]
    assert "2 of 4 soft labels have several most probable classes; the first was used" in peer.note
