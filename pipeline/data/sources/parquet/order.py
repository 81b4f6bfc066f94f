"""The order of the images of a class: that of their paths, where every row of the class has a path of its own."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyarrow.compute import call_function

from pipeline.data.sources.parquet.file import dictionary_of
from pipeline.errors import UserError

FEW_BYTES = 16 * 2**20
"""Bytes of paths that a file of any size may have; others have at most ``TIMES_FILE`` times the bytes of the file."""
TIMES_FILE = 4


class PathCollector:
    """Collects the paths of a file, batch by batch."""

    def __init__(self, size: int, path: str) -> None:
        """Args: bytes of the file, and its path for messages."""
        self._left = max(FEW_BYTES, TIMES_FILE * size)
        self._path = path
        self._parts: list[pa.Array] = []

    def add(self, paths: pa.Array) -> None:
        """Adds a batch, encoded as a dictionary. Raises UserError if the paths are many times as large as the file."""
        encoded = dictionary_of(paths, self._path)
        values = encoded.dictionary.cast(pa.large_string())
        lengths = call_function("binary_length", [values]).take(encoded.indices)
        self._left -= call_function("sum", [lengths]).as_py() or 0
        if self._left < 0:
            raise UserError(
                f"{self._path}: its paths of images take more than {TIMES_FILE} times the bytes of the file; it is damaged"
            )
        self._parts.append(values.take(encoded.indices))

    def finish(self) -> pa.ChunkedArray:
        """Returns the paths of all batches."""
        return pa.chunked_array(self._parts, pa.large_string())


def ranks_of(files: Sequence[tuple[np.ndarray, pa.ChunkedArray | None]]) -> list[np.ndarray | None]:
    """Returns for each file the place of its rows in the order of their class's paths, -1 where rows are in that order.

    A class keeps the order of its rows if they do not all have a path of their own.

    Args:
        files: the class of every row of a file, -1 for rows that do not matter, and its paths.
    """
    sizes = [len(classes) for classes, _ in files]
    starts = np.cumsum([0, *sizes])
    chosen = [np.flatnonzero(classes >= 0) for classes, _ in files]
    rows = np.concatenate([start + own for start, own in zip(starts, chosen, strict=False)])
    classes = np.concatenate([own[picked] for (own, _), picked in zip(files, chosen, strict=True)])
    if not len(rows) or all(paths is None for _, paths in files):
        return [None] * len(files)
    parts = [
        pa.nulls(len(picked), pa.large_string()) if paths is None else paths.take(pa.array(picked)).combine_chunks()
        for (_, paths), picked in zip(files, chosen, strict=True)
    ]
    columns = {"class": classes, "path": pa.chunked_array(parts, pa.large_string()), "row": rows}
    table = pa.table(columns).sort_by([(name, "ascending") for name in columns])
    ranks = np.full(starts[-1], -1, np.int64)
    _rank(ranks, table["class"].to_numpy(), table["path"].combine_chunks(), table["row"].to_numpy())
    parts_of_files = [ranks[start : start + size] for start, size in zip(starts, sizes, strict=False)]
    return [own if (own >= 0).any() else None for own in parts_of_files]


def _rank(ranks: np.ndarray, classes: np.ndarray, paths: pa.Array, rows: np.ndarray) -> None:
    """Fills in the ranks of the rows of the classes that are in another order; everything is sorted by class and path."""
    same_class = classes[1:] == classes[:-1]
    encoded = paths.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy()
    without = (codes == -1) | (codes == encoded.dictionary.index("").as_py())
    equal = codes[1:] == codes[:-1]
    unordered = np.union1d(classes[without], classes[1:][same_class & equal])
    moved = np.setdiff1d(classes[1:][same_class & (rows[1:] < rows[:-1])], unordered)
    chosen = np.isin(classes, moved)
    places = np.arange(len(classes)) - np.searchsorted(classes, classes)
    ranks[rows[chosen]] = places[chosen]
