"""Which columns of a Parquet file hold the images and the labels, and how its classes are named."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import UserError, listed

LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "cls")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a file that matter."""

    image: str
    """Name of the image column."""
    label: str | None
    """Name of the label column; None if a folder above the file names the class."""
    has_paths: bool
    """Whether the image column stores a path with every image."""
    class_names: tuple[str, ...]
    """Names that the hub's metadata declare for the labels 0, 1, ...; empty if there are none."""

    @property
    def besides_images(self) -> list[str]:
        """Columns to read for labels and paths, without the images."""
        return [*([f"{self.image}.path"] if self.has_paths else []), *([self.label] if self.label else [])]


def columns_of(schema: pa.Schema, path: str, name: str) -> Columns:
    """Returns the columns of a file: those that the hub's metadata declare, else those of usual names and types.

    Args:
        schema: schema of the file.
        path: path of the file, for messages.
        name: path of the file within its source; a folder of it may name the class.

    Raises:
        UserError: there is no image column, or no label column and no folder that names the class.
    """
    features = _features(schema)
    image = _image_column(schema, features, path)
    label = _label_column(schema, features, path, name)
    names = features.get(label or "", {}).get("names", [])
    return Columns(image=image, label=label, has_paths=_has_paths(schema.field(image).type), class_names=tuple(names))


def class_of_folder(name: str) -> int | str | None:
    """Returns the class that a folder such as ``label=3`` gives to the files below it, or None."""
    for part in name.split("/")[:-1]:
        key, equals, value = part.partition("=")
        if equals and key in LABEL_NAMES:
            return int(value) if value.isdecimal() else value
    return None


def _image_column(schema: pa.Schema, features: Any, path: str) -> str:
    declared = [f.name for f in schema if features.get(f.name, {}).get("_type") == "Image"]
    images = declared or [f.name for f in schema if _holds_bytes(f.type)]
    if not images:
        raise UserError(
            f"{path}: has no image column (bytes, or a struct of bytes and path); it has {_described(schema)}"
        )
    return images[0]


def _label_column(schema: pa.Schema, features: Any, path: str, name: str) -> str | None:
    declared = [f.name for f in schema if features.get(f.name, {}).get("_type") == "ClassLabel"]
    usual = [label for label in LABEL_NAMES if label in schema.names and _is_label(schema.field(label).type)]
    labels = declared or usual or [f.name for f in schema if pa.types.is_integer(f.type)][:1]
    if not usual and not declared and class_of_folder(name) is not None:
        return None
    if not labels:
        raise UserError(
            f"{path}: has no label column ({', '.join(LABEL_NAMES)}, or any integers); it has {_described(schema)}"
        )
    return next((label for label in labels if label.startswith("fine")), labels[0])


def _features(schema: pa.Schema) -> Any:
    """The features that Hugging Face's datasets library declares in the metadata, by column; often empty."""
    try:
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}


def _has_paths(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(field.name == "path" for field in kind)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _described(schema: pa.Schema) -> str:
    return listed(f"{field.name} ({field.type})" for field in schema)
