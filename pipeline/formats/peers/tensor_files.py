"""Files of torch tensors: a file can hold plain tensors, numbers and names, never code, and no more than it has bytes.

``tensor_claims`` checks a file, and torch reads it with ``weights_only=True``.
"""

import io
import warnings
from typing import Any

import numpy as np
import torch

from pipeline import storage
from pipeline.errors import UserError, listed
from pipeline.formats.peers.tensor_claims import checked


def load(path: str) -> Any:
    """Returns the content of a file, on the CPU. Raises UserError if it does not exist or is not a file of tensors."""
    try:
        data = storage.read_bytes(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: does not exist or is not a file") from None
    try:
        # Accuracies in files of DC and DSA are numpy scalars; these names hold no code either.
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            # torch warns about the pickle protocol of files that it did not write.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(io.BytesIO(checked(data)), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises almost anything for a file of another kind, or a damaged one
        reason = listed(str(error).strip().splitlines()[:1])
        raise UserError(f"{path}: cannot be read as a file of torch tensors ({reason})") from None


def save(path: str, content: Any) -> None:
    """Writes content as a file of tensors, visible at once. Raises UserError if it cannot be written."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    storage.write_bytes(path, buffer.getvalue())


def _numpy_scalars() -> list[Any]:
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
