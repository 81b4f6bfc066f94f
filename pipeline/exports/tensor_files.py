"""Files of tensors of other projects, as a file or as the folder of an export; what ``pipeline.formats.peers`` reads."""

import fnmatch

from pipeline import storage
from pipeline.errors import UserError, listed
from pipeline.exports.incoming import Incoming, Known
from pipeline.formats.peers import PeerFile, read_stored


def file_in(path: str, pattern: str) -> str:
    """Returns the path of a file, or of the only file in a folder whose name matches a pattern. Raises UserError."""
    if not storage.is_folder(path):
        return path
    names = [name for name in storage.files_below(path) if fnmatch.fnmatchcase(name, pattern)]
    if len(names) != 1:
        what = f"several files {pattern}: {listed(names, 3)}" if names else f"no file {pattern}"
        raise UserError(f"{path}: holds {what}; give the file itself")
    return storage.join(path, names[0])


def read_peer(path: str, layout: str, known: Known) -> Incoming:
    """Returns the content of a file that ``pipeline.formats.peers`` reads, not decoded, in [0, 1]. Raises UserError."""
    mean, std = known.moments or (None, None)
    stored = read_stored(PeerFile(path=path, layout=layout, mean=mean, std=std), classes=known.classes)
    return Incoming(images=stored.images, labels=stored.labels, notes=stored.notes)
