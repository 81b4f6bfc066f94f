"""Types of fields in documents of which code makes paths. They are checked when the document is read.

A document may come from somebody else: a name such as ``../../other`` would lead out of the folder.
"""

import os
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

LONGEST_NAME = 255
"""Largest number of bytes of a file name."""
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f-\x9f.][^/\\\x00-\x1f\x7f-\x9f]*")


@dataclass(frozen=True)
class Format:
    """The numbers of a document's format that this version reads; marks the field that has the number."""

    oldest: int
    newest: int

    def __str__(self) -> str:
        return f"{self.oldest}" if self.oldest == self.newest else f"{self.oldest} to {self.newest}"


def _bare_name(name: str) -> str:
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        length = LONGEST_NAME + 1
    if not _NAME.fullmatch(name) or length > LONGEST_NAME:
        raise ValueError("is no bare file name")
    return name


def _path_below(path: str) -> str:
    for name in path.split("/"):
        _bare_name(name)
    return path


def _keyed_folder(path: str) -> str:
    _bare_name(path.rsplit("/", 1)[-1])
    return path


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A checksum as ``storage.sha256`` returns it."""
FileName = Annotated[str, AfterValidator(_bare_name)]
"""The name of a file or folder directly in the document's folder: not hidden, without slashes and control characters."""
PathBelow = Annotated[str, AfterValidator(_path_below)]
"""A relative path of such names, below the document's folder."""
KeyedFolder = Annotated[str, AfterValidator(_keyed_folder)]
"""A path or URL whose last name is a key. The folders before it are not trusted; see ``pipeline.storage.settings``."""
