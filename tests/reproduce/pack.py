"""Images for a machine without Ray: ``python -m tests.reproduce.pack RUN FOLDER``.

RUN is the folder of a run whose class shards were prepared. FOLDER gets ``part-N.pt`` of at most 48 MiB each, which
``python -m tests.reproduce.alone --data FOLDER`` reads; they may be carried over one by one.
"""

import argparse
from pathlib import Path

import torch

from pipeline.class_cache import ClassCache
from pipeline.config import from_dict
from pipeline.ledger import read_run

PART_BYTES = 48 * 2**20


def main() -> None:
    """Writes the parts and says how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("folder", type=Path, help="where the parts are written")
    given = parser.parse_args()
    record = read_run(given.run)
    if record is None:
        parser.error(f"{given.run}: is no run's folder (it has no config.json)")
    cache = ClassCache(record["resolved"]["class_shards"], from_dict(record, origin=given.run).data)
    print(f"{pack(cache, given.folder)} parts in {given.folder}")


def pack(cache: ClassCache, folder: Path) -> int:
    """Writes training and test images, class by class, in parts; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [
        {"split": split, "label": entry["label"], "images": images}
        for split in ("train", "test")
        for entry in cache.classes
        for images in (cache.train(entry["label"]) if split == "train" else cache.images("test", entry["label"])).split(
            max(1, PART_BYTES // cache.train(0)[0].numel())
        )
    ]
    parts: list[list[dict[str, object]]] = [[]]
    room = PART_BYTES
    for piece in pieces:
        size = piece["images"].numel()
        if size > room:
            parts.append([])
            room = PART_BYTES
        parts[-1].append({**piece, "images": piece["images"].clone()})  # a view would be stored with all it views
        room -= size
    mean, std = cache.moments
    for number, held in enumerate(parts):
        content = {"parts": len(parts), "mean": mean, "std": std, "pieces": held}
        torch.save(content, folder / f"part-{number}.pt")
    return len(parts)


if __name__ == "__main__":
    main()
