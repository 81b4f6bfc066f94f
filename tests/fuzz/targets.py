"""What is read: valid files of every kind, how they are changed, and the function that must read or refuse them."""

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import images, sets, settings
from tests.fuzz.mutations import Files, one_file_changed, resealed

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of file."""

    name: str
    write: Callable[[Path], None]
    """Writes valid files into folders below the given one, each a sample of its own."""
    read: Callable[[Path], None]
    """Reads the files of a folder. Must return, or raise an error of one line."""
    room_bytes: int = 512 * MIB
    """Memory that reading may take besides what the process has."""
    seals: bool = False
    """Whether checksums are corrected after the files were changed, three times of four."""
    invented: Callable[[random.Random], Files] | None = None
    """Makes files from nothing, for texts whose structure changes of bytes rarely keep; every other input."""

    def valid(self, folder: Path) -> list[Files]:
        """The valid files, each sample as path and content."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.write(folder)
        return [_files(sample) for sample in sorted(folder.iterdir()) if sample.is_dir()]

    def changed(self, valid: list[Files], random: random.Random) -> Files:
        """An input made from random numbers alone."""
        if self.invented is not None and random.random() < 0.5:
            return self.invented(random)
        files: Mapping[str, bytes] = random.choice(valid)
        for _ in range(random.choice((1, 1, 2))):
            files = one_file_changed(files, random)
        return resealed(files) if self.seals and random.random() < 0.75 else dict(files)


def _files(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(name="image", write=images.write_images, read=images.read_image, room_bytes=2048 * MIB),
        Target(name="tar", write=images.write_tars, read=images.read_tars),
        Target(name="parquet", write=images.write_parquet, read=images.read_parquet, room_bytes=1024 * MIB),
        Target(name="mnist", write=images.write_mnist, read=images.read_mnist),
        Target(name="peers", write=sets.write_peers, read=sets.read_peers, invented=sets.invented_peer),
        Target(name="condensed", write=sets.write_condensed, read=sets.read_condensed, seals=True),
        Target(name="class-shards", write=sets.write_class_shards, read=sets.read_class_shards, seals=True),
        Target(name="experts", write=sets.write_experts, read=sets.read_experts_of, seals=True),
        Target(name="checkpoint", write=sets.write_checkpoints, read=sets.read_checkpoint_of),
        Target(name="run", write=sets.write_run, read=sets.read_run, seals=True),
        Target(name="search", write=sets.write_search, read=sets.read_search, seals=True),
        Target(
            name="config", write=settings.write_config, read=settings.read_config, invented=settings.invented_config
        ),
        Target(name="space", write=settings.write_space, read=settings.read_space, invented=settings.invented_space),
        Target(
            name="profile", write=settings.write_profile, read=settings.read_profile, invented=settings.invented_profile
        ),
        Target(name="synsets", write=settings.write_synsets, read=settings.read_synsets_file),
    )
}
