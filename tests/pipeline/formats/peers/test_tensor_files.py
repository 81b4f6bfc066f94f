"""Files of tensors: code in a file is never run, and damaged files are refused."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from tests.pipeline.support.peers import LABELS, read_peer


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code was run')",))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "data.pt"
    path.write_bytes(pickle.dumps([Evil(), LABELS]))
    with pytest.raises(UserError, match="cannot be read"):
        read_peer(f"{path}:idc")
    torch.save([Evil(), LABELS], path)
    with pytest.raises(UserError, match="cannot be read"):
        read_peer(f"{path}:idc")


@pytest.mark.parametrize("content", [b"", b"\x80\x02R.", b"PK\x03\x04", b"nothing of the kind"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a file of torch tensors"):
        read_peer(f"{tmp_path / 'a.pt'}:idc")
