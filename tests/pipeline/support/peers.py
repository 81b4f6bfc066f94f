"""Files of peers with four images of two classes."""

from pathlib import Path
from typing import Any

import torch

from m3d import standardise
from pipeline.formats.peers import PeerSet, parse, read

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
NORMALISED = standardise(IMAGES, MEAN, STD)
LABELS = torch.tensor([0, 0, 1, 1])


def saved(tmp_path: Path, content: Any, name: str = "data.pt") -> str:
    """The path of a new file with this content."""
    torch.save(content, tmp_path / name)
    return str(tmp_path / name)


def read_peer(argument: str, classes: int = 2) -> PeerSet:
    """The set that an argument of the command line names."""
    return read(parse(argument), shape=(3, 8, 8), classes=classes, moments=(MEAN, STD))
