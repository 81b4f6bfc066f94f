"""What columns of an Arrow type can hold: encoded images, their paths, or labels."""

from typing import Literal

import pyarrow as pa

LabelKind = Literal["integers", "text", "true or false", "nothing"]
"""What the labels of a file are; nothing if every row is null."""


def label_kind(kind: pa.DataType) -> LabelKind | None:
    """Returns what the values of a column are as labels, or None if they cannot be labels."""
    kind = plain(kind)
    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "integers"
    if _is_text(kind) or _is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "text"
    return "nothing" if pa.types.is_null(kind) else None


def plain(kind: pa.DataType) -> pa.DataType:
    """Returns the type of the values themselves, whatever dictionary or extension they are wrapped in."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind):
            kind = kind.value_type
        else:
            return kind


def has_paths(kind: pa.DataType) -> bool:
    """Whether a column of images stores a path with every image."""
    kind = plain(kind)
    return pa.types.is_struct(kind) and any(field.name == "path" and _is_text(plain(field.type)) for field in kind)


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column may hold encoded images: bytes, or a struct with bytes."""
    kind = plain(kind)
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(plain(field.type)) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
