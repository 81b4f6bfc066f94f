"""CIFAR-10 for a machine without Ray: ``python -m tests.reproduce.pack RUN FOLDER``.

RUN is the folder of a run of CIFAR-10 whose class shards were prepared. FOLDER gets ``part-000.pt`` and so on, with at most
44 MiB of pixels each, which ``python -m tests.reproduce.alone --data FOLDER`` reads; they may be carried over one by one.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from pipeline.class_cache import ClassCache
from pipeline.config import from_dict
from pipeline.ledger import read_run

PART_BYTES = 44 * 2**20
WANTED: dict[str, Any] = {
    "name": "CIFAR10",
    "image_size": 32,
    "classes": None,
    "subset": None,
    "validation_fraction": 0.0,
}
"""Settings of ``data``: all training images of all classes."""


def main() -> None:
    """Writes the parts and says how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("folder", type=Path, help="where the parts are written")
    given = parser.parse_args()
    record = read_run(given.run)
    if record is None:
        parser.error(f"{given.run}: is no run's folder (it has no config.json)")
    data = from_dict(record, origin=given.run).data
    others = [f"data.{key}={getattr(data, key)}" for key, value in WANTED.items() if getattr(data, key) != value]
    if others:
        parser.error(f"{given.run}: is not of all of CIFAR-10 at 32 px ({', '.join(others)}); give another run")
    print(f"{pack(ClassCache(record['resolved']['class_shards'], data), given.folder)} parts in {given.folder}")


def pack(cache: ClassCache, folder: Path) -> int:
    """Writes training and test images, class by class, in parts; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[list[dict[str, Any]]] = [[]]
    room = PART_BYTES
    for split in ("train", "test"):
        for entry in cache.classes:
            label = entry["label"]
            images = cache.train(label) if split == "train" else cache.images("test", label)
            for piece in images.split(max(1, PART_BYTES // images[0].numel())):
                if piece.numel() > room:
                    parts.append([])
                    room = PART_BYTES
                # A view would be stored with all that it is a view of.
                parts[-1].append({"split": split, "label": label, "images": piece.clone()})
                room -= piece.numel()
    mean, std = cache.moments
    for number, pieces in enumerate(parts):
        content = {"parts": len(parts), "mean": mean, "std": std, "pieces": pieces}
        torch.save(content, folder / f"part-{number:03d}.pt")
    return len(parts)


if __name__ == "__main__":
    main()
