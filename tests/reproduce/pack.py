"""CIFAR-10 for a machine without Ray: ``python -m tests.reproduce.pack RUN FOLDER``.

RUN is the folder of a run of CIFAR-10 that `run` or `condense` began. FOLDER gets ``part-000.pt`` and so on, with at most
44 MiB of pixels each, which ``python -m tests.reproduce.alone --data FOLDER`` reads; they may be carried over one by one.
"""

import argparse
import secrets
from pathlib import Path

from pipeline.config.parsing import from_dict
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from tests.reproduce.alone_cell import replace_file
from tests.reproduce.packed import Piece, checksum

PART_BYTES = 44 * 2**20
WANTED = ((3, 32, 32), ((5000, 1000),) * 10, 0.0)
"""Shape of an image, training and test images of every class, and the part that is held out."""


def main() -> None:
    """Writes the parts and says how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("folder", type=Path, help="where the parts are written")
    given = parser.parse_args()
    try:
        print(f"{pack(cache_of(given.run), given.folder)} parts in {given.folder}")
    except UserError as error:
        parser.error(str(error))


def cache_of(run: str) -> PreparedDataset:
    """The class shards of a run. Raises UserError where they are not all of CIFAR-10's."""
    record = RunFolder.at(run).read_record()
    if record is None:
        raise UserError(f"{run}: is no run's folder (it has no config.json)")
    data = from_dict(record, origin=run).data
    cache = PreparedDataset(record["resolved"]["class_shards"], data)
    rows = tuple((entry["train"]["rows"], entry["test"]["rows"]) for entry in cache.classes)
    if (tuple(cache.manifest["shape"]), rows, data.validation_fraction) != WANTED:
        raise UserError(f"{run}: is not of all images of CIFAR-10 at 32 px; give another run")
    return cache


def pack(cache: PreparedDataset, folder: Path) -> int:
    """Writes training and test images, class by class, in parts; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("part-*.pt"):
        old.unlink()
    parts: list[list[Piece]] = [[]]
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
    packing = secrets.token_hex(8)
    for number, pieces in enumerate(parts):
        content = {"packing": packing, "parts": len(parts), "mean": mean, "std": std, "pieces": pieces}
        replace_file(folder / f"part-{number:03d}.pt", {**content, "checksum": checksum(pieces)})
    return len(parts)


if __name__ == "__main__":
    main()
