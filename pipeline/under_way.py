"""Networks that are being trained: what an interrupted evaluation goes on with. No Ray here.

OUT/networks/KEY-SEED.safetensors    weights, momentum, random state and what was looked at after some epochs; goes with the last epoch
"""

import json
import time
from collections.abc import Callable

import safetensors
from safetensors.torch import load, save
from torch import Tensor

from pipeline import storage

FOLDER = "networks"
EVERY_S = 60.0
"""Seconds between two writes; networks that are trained in less are not kept."""


class UnderWay:
    """The networks of one row, an ``m3d.evaluator.Keeper``."""

    def __init__(self, out: str, key: str, every_s: float = EVERY_S) -> None:
        """Args: a folder, the checksum of all that the row follows from, and the seconds between two writes."""
        self.out, self.key, self.every_s = out, key, every_s
        self._written = time.monotonic()

    def load(self, seed: int) -> tuple[int, dict[str, Tensor]] | None:
        """Epochs that are done and the tensors after them; None where there are none or the file is damaged."""
        self._written = time.monotonic()
        try:
            data = storage.read_bytes(self._path(seed))
            metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
            tensors = load(data)
            if metadata["sha256"] != _sum(tensors, metadata["epoch"]):
                return None
            return int(metadata["epoch"]), tensors
        except (FileNotFoundError, safetensors.SafetensorError, ValueError, KeyError, TypeError):
            return None  # a damaged one costs its training, never the evaluation

    def keep(self, seed: int, epoch: int, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Stores a network, at most every ``every_s`` seconds."""
        if time.monotonic() - self._written < self.every_s:
            return
        held = tensors()
        metadata = {"epoch": str(epoch), "sha256": _sum(held, str(epoch))}
        storage.write_bytes(self._path(seed), save(held, metadata))
        self._written = time.monotonic()

    def finished(self, seed: int) -> None:
        """Removes the file."""
        storage.remove(self._path(seed))

    def _path(self, seed: int) -> str:
        return storage.join(self.out, FOLDER, f"{self.key}-{seed}.safetensors")


def _sum(tensors: dict[str, Tensor], epoch: str) -> str:
    content = [tensors[name].contiguous().numpy().tobytes() for name in sorted(tensors)]
    return storage.sha256(b"".join([epoch.encode(), *content]))
