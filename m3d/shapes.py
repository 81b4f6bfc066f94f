"""Array aliases, the legend of axis letters, the geometry of images, and ShapeError.

Tensors carry their axes as a suffix (``real_KND``). The letters throughout this package:

    K  classes condensed together (a group)
    S  stored synthetic images of a class (images per class)
    M  synthetic views of a class: S * factor**2 decoded tiles, or a random subset of them
    N  real images of a class in one batch
    B  images of any origin in one batch
    D  features
    C, H, W  channels, height, width

Shapes in signatures are checked when the tests run and cost nothing otherwise. ``jaxtyping`` is optional.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8
else:
    try:
        from jaxtyping import Float, Int, UInt8
    except ImportError:

        class _Unchecked:
            def __class_getitem__(cls, item: Any) -> Any:
                return item[0]

        Float = Int = UInt8 = _Unchecked


__all__ = ["Float", "ImageSpec", "Int", "ShapeError", "UInt8"]


class ShapeError(ValueError):
    """An array with unexpected axes; the message has its shape and the expected one."""

    def __init__(self, what: str, given: tuple[int, ...], expected: str) -> None:
        super().__init__(f"{what} has shape {list(given)}; expected {expected}")
        self.given = given
        self.expected = expected


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Shape of the images and how they are normalised: (image - mean) / std, for images in [0, 1]."""

    shape: tuple[int, int, int]
    """Channels, height, width."""
    mean: tuple[float, ...]
    """Mean per channel."""
    std: tuple[float, ...]
    """Standard deviation per channel."""
