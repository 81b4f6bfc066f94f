"""A condensed set of three classes, as the pipeline leaves it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.formats.condensed_writer import condensed_shard
from pipeline.storage.documents import sealed, write_document

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
CLASSES = [{"label": i, "wnid": f"n0000000{i}", "name": name} for i, name in enumerate(("ant", "bee", "cat"))]
STORED = 2


def values(classes: int = 3, stored: int = STORED, channels: int = 3, side: int = 8, seed: int = 0) -> np.ndarray:
    """float32 [K, S, C, H, W] in [0, 1]."""
    return np.random.default_rng(seed).random((classes, stored, channels, side, side), np.float32)


def write_set(folder: Path, groups: tuple[tuple[int, ...], ...] = ((0, 1), (2,)), **changes: Any) -> Path:
    """Writes a condensed set with a shard per group; ``changes`` replace keys of the manifest."""
    images, entries = values(), []
    for number, group in enumerate(groups):
        shard = condensed_shard(images[list(group)], [CLASSES[label] for label in group], {"format_version": 1})
        name = f"shard-{number:05d}.arrow"
        storage.write_bytes(str(folder / name), shard)
        entries.append({"file": name, "rows": STORED * len(group), "sha256": storage.sha256(shard)})
    manifest = {
        "format_version": 1,
        "shards": entries,
        "classes": CLASSES,
        "images_per_class": STORED,
        "factor": 2,
        "shape": [3, 8, 8],
        "mean": MEAN,
        "std": STD,
    }
    write_document(str(folder / "manifest.json"), {**manifest, **changes})
    return folder


def change_manifest(folder: Path, change: Callable[[Any], Any]) -> None:
    """Applies a function to the parsed manifest and writes it with a new checksum."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(sealed(manifest)))
