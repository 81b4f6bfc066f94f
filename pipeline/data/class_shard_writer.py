"""Writes the images of one class to an Arrow file, batch by batch."""

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.formats.arrow_schema import class_schema, tensor_array

BATCH_BYTES = 16 * 2**20
"""Bytes of pixels in a record batch of a class shard; a writer keeps at most one batch in memory."""


class ClassShard:
    """The Arrow file of one class's images, written batch by batch, so that memory does not grow with the class."""

    def __init__(self, path: str, shape: tuple[int, int, int]) -> None:
        """Args: path of the file, and shape [C, H, W] of its images."""
        self._target = storage.AtomicWriter(path)
        self._schema = class_schema(shape)
        self._writer = pa.ipc.new_file(pa.PythonFile(self._target, "w"), self._schema)
        self._images: list[np.ndarray] = []
        self._paths: list[str] = []
        self._most = max(1, BATCH_BYTES // int(np.prod(shape)))
        self._shape = shape
        self.rows = 0

    def add(self, image: np.ndarray, path: str) -> None:
        """Appends an image, uint8 [C, H, W], and its place in the source."""
        self._images.append(image)
        self._paths.append(path)
        self.rows += 1
        if len(self._images) >= self._most:
            self._flush()

    def commit(self) -> str:
        """Makes the file visible; returns its checksum."""
        if self._images or not self.rows:
            self._flush()
        self._writer.close()
        return self._target.commit()

    def discard(self) -> None:
        """Drops the file unless it is committed."""
        self._target.discard()

    def _flush(self) -> None:
        images = np.stack(self._images) if self._images else np.zeros((0, *self._shape), np.uint8)
        columns = [tensor_array(images, self._schema), pa.array(self._paths, pa.string())]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self._images, self._paths = [], []
