"""Packs CIFAR-10 for a machine without Ray: ``python -m tests.reproduce.pack RUN FOLDER``.

RUN is the folder of a run of CIFAR-10 that `run` or `condense` started. The parts ``part-000.pt`` and so on are written
to FOLDER, with at most 44 MiB of pixels each. They may be carried over one by one. ``python -m tests.reproduce.alone
--data FOLDER`` reads them.
"""

import argparse
import secrets
from pathlib import Path
from typing import Any

from pipeline.config.parsing import from_dict
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.formats.run_record import read_run
from tests.reproduce.alone_cell import replace_file
from tests.reproduce.packed import checksum

PART_BYTES = 44 * 2**20
WANTED = ((3, 32, 32), ((5000, 1000),) * 10, 0.0)
"""Required shape of an image, training and test images of every class, and fraction held out for validation."""


def main() -> None:
    """Writes the parts and prints their number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("folder", type=Path, help="folder for the parts")
    args = parser.parse_args()
    try:
        print(f"{pack(cache_of(args.run), args.folder)} parts in {args.folder}")
    except UserError as error:
        parser.error(str(error))


def cache_of(run: str) -> PreparedDataset:
    """The class shards of a run. Raises UserError unless they are those of all of CIFAR-10."""
    record = read_run(run)
    if record is None:
        raise UserError(f"{run}: is not the folder of a run (no config.json); give the --out of `run` or `condense`")
    data = from_dict(record, origin=run).data
    cache = PreparedDataset(record["resolved"]["class_shards"], data)
    rows = tuple((entry["train"]["rows"], entry["test"]["rows"]) for entry in cache.classes)
    if (tuple(cache.manifest["shape"]), rows, data.validation_fraction) != WANTED:
        raise UserError(f"{run}: does not have all images of CIFAR-10 at 32 px; give another run")
    return cache


def pack(cache: PreparedDataset, folder: Path) -> int:
    """Writes training and test images in parts, class by class. Returns the number of parts."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("part-*.pt"):
        old.unlink()
    parts: list[list[dict[str, Any]]] = [[]]
    left = PART_BYTES
    for split in ("train", "test"):
        for entry in cache.classes:
            label = entry["label"]
            images = cache.train(label) if split == "train" else cache.images("test", label)
            for piece in images.split(max(1, PART_BYTES // images[0].numel())):
                if piece.numel() > left:
                    parts.append([])
                    left = PART_BYTES
                # A view would be stored with the full tensor behind it.
                parts[-1].append({"split": split, "label": label, "images": piece.clone()})
                left -= piece.numel()
    mean, std = cache.moments
    packing = secrets.token_hex(8)
    for number, pieces in enumerate(parts):
        content = {"packing": packing, "parts": len(parts), "mean": mean, "std": std, "pieces": pieces}
        replace_file(folder / f"part-{number:03d}.pt", {**content, "checksum": checksum(pieces)})
    return len(parts)


if __name__ == "__main__":
    main()
