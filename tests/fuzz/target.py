"""A kind of file: valid ones, how they are changed, and the function that must read or refuse them."""

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
