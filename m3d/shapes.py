"""Array aliases, the legend of axis letters, and ShapeError.

Tensors carry their axes as a suffix (``real_KND``). The letters, everywhere in this package:

    K  classes condensed together (a group)
    S  stored synthetic images of a class (images per class)
    M  synthetic views of a class: S * factor**2 decoded tiles, or a random subset of them
    N  real images of a class in one batch
    B  images of any origin in one batch
    D  features
    C, H, W  channels, height, width

Shapes in signatures are checked when the tests run and cost nothing otherwise; ``jaxtyping`` may be absent.
"""

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


__all__ = ["Float", "Int", "ShapeError", "UInt8"]


class ShapeError(ValueError):
    """An array whose axes do not fit; says what was given and what is expected."""

    def __init__(self, what: str, given: tuple[int, ...], expected: str) -> None:
        super().__init__(f"{what} has shape {list(given)}; expected {expected}")
        self.given = given
        self.expected = expected
