"""Named tensors in a safetensors file with a checksum of their content: checkpoints that hold no pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import safetensors
from safetensors.torch import load, save
from torch import Tensor

from pipeline.storage.objects import read_bytes, sha256, write_bytes

CHECKSUM = "sha256"
"""Key of the checksum among the metadata."""


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """The content of a file of tensors."""

    tensors: dict[str, Tensor]
    """On the CPU."""
    metadata: dict[str, str]


def write_tensors(path: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, checked: str = "") -> None:
    """Writes tensors and metadata with a checksum, visible at once.

    Args:
        path: local path or URL.
        tensors: contiguous, on the CPU; nobody may change them during the call.
        metadata: texts by name.
        checked: name of the text that the checksum covers besides the tensors; none if empty.

    Raises:
        UserError: there is no space or no permission, or the file system is read-only.
    """
    content = dict(tensors)
    sealed = {**metadata, CHECKSUM: checksum(content, metadata[checked] if checked else "")}
    write_bytes(path, save(content, sealed))


def read_tensors(path: str, *, checked: str = "") -> TensorFile | None:
    """Reads what ``write_tensors`` wrote; returns None if there is no file, or a damaged one.

    A damaged file is ignored and its work is repeated.

    Args:
        path: local path or URL.
        checked: as it was given to ``write_tensors``.
    """
    try:
        data = read_bytes(path)
        file = TensorFile(tensors=load(data), metadata=metadata_of(data))
        text = file.metadata[checked] if checked else ""
        return file if file.metadata[CHECKSUM] == checksum(file.tensors, text) else None
    except (FileNotFoundError, safetensors.SafetensorError, ValueError, KeyError, TypeError):
        return None


def metadata_of(data: bytes) -> dict[str, str]:
    """Returns the metadata of a safetensors file. Raises ValueError or KeyError if the header is damaged."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size])["__metadata__"]


def checksum(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Returns the hexadecimal checksum of a text and of the tensors' bytes, in the order of their names."""
    content = [tensors[name].contiguous().numpy().tobytes() for name in sorted(tensors)]
    return sha256(b"".join([text.encode(), *content]))
