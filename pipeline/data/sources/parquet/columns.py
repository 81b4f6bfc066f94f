"""Which columns of a Parquet file hold the images and the labels, and how its classes are named.

Nothing is guessed: where several columns could be meant, the file is refused, and ``data.image_column`` and
``data.label_column`` choose.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from pipeline.data.sources.layout.split_words import LABEL_NAMES
from pipeline.data.sources.parquet.arrow_types import LabelKind, has_paths, holds_bytes, label_kind, plain
from pipeline.errors import UserError, listed, nearest

IMAGE_NAMES = ("image", "img")
"""Names of image columns, without regard to case."""
NAME_LENGTH = 1000
"""Most characters of a class name."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""What hive partitions write for null."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The columns that the settings name."""

    image: str | None = None
    """``data.image_column``."""
    label: str | None = None
    """``data.label_column``."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder such as ``label=3``, which gives its class to all rows of the files below it."""

    key: str
    value: str | None
    """None if it stands for rows without a label."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a file that matter."""

    image: str
    """Name of the image column."""
    label: str | None
    """Name of the label column; None if a folder above the file names the class."""
    folder: Folder | None
    """The folder that names the class; None if a column does."""
    kind: LabelKind
    """What the labels are. Those of a folder are text until all folders of the source are known."""
    has_paths: bool
    """Whether the image column stores a path with every image."""
    class_names: tuple[str, ...]
    """Names that the hub's metadata declare for the labels 0, 1, ...; empty if there are none."""
    is_only_integer: bool
    """Whether the label column is taken for being the only column of integers."""
    marks: tuple[str, ...]
    """What distinguishes the columns from those that versions without ``data.label_column`` read, for the fingerprint."""

    @property
    def label_origin(self) -> str:
        """Where the labels are, for the user."""
        if self.folder is not None:
            return f"folders {self.folder.key}=..."
        return f"{self.label} (the only column of integers)" if self.is_only_integer else f"{self.label}"

    @property
    def besides_images(self) -> list[str]:
        """Columns to read for labels and paths, without the images."""
        return [*([f"{self.image}.path"] if self.has_paths else []), *([self.label] if self.label else [])]


def columns_of(schema: pa.Schema, path: str, name: str, choice: Choice) -> Columns:
    """Returns the columns of a file: those of the settings, else those of usual names or that the hub's metadata declare.

    Args:
        schema: schema of the file.
        path: path of the file, for messages.
        name: path of the file within its source; a folder of it may name the class.
        choice: the columns that the settings name.

    Raises:
        UserError: there is no image column, no label column and no folder that names the class, several columns could
            be meant, or the values of the label column cannot be labels.
    """
    twice = sorted({column for column in schema.names if schema.names.count(column) > 1})
    if twice:
        raise UserError(f"{path}: has several columns called {listed(twice)}; rename all but one")
    features = _features(schema)
    folder = class_folder(name, path, choice.label)
    image = _image_column(schema, features, path, choice.image)
    label = _label_column(schema, features, path, folder, choice.label)
    kind = label_kind(schema.field(label).type) if label else "text"
    if label is None:
        label_type = None
    elif kind is None:
        label_type = schema.field(label).type
        raise UserError(
            f"{path}: column {label!r} is {_short(str(label_type))}; labels must be integers, whole numbers, true or "
            "false, or text; data.label_column names another column"
        )
    names = _class_names(features.get(label or "", {}), path)
    usual = {*LABEL_NAMES, choice.label}
    return Columns(
        image=image,
        label=label,
        folder=None if label else folder,
        kind=kind or "text",
        has_paths=has_paths(schema.field(image).type),
        class_names=names,
        is_only_integer=label is not None and not names and label.lower() not in usual and label != choice.label,
        marks=_marks(schema, features, image, label),
    )


def class_folder(name: str, path: str, key: str | None = None) -> Folder | None:
    """Returns the folder such as ``label=3`` above a file that gives it its class, or None.

    Args:
        name: path of the file within its source.
        path: path of the file, for messages.
        key: the key to look for. Defaults to those that labels usually have.

    Raises:
        UserError: several folders name a class.
    """
    pairs = [part.partition("=") for part in name.split("/")[:-1]]
    folders = {
        _decoded(left): _decoded(right)
        for left, equals, right in reversed(pairs)
        if equals and (_decoded(left) == key if key else _decoded(left).lower() in LABEL_NAMES)
    }
    if len(folders) > 1:
        keys = " and ".join(sorted(folders))
        raise UserError(f"{path}: folders name its class by {keys}; choose one with data.label_column")
    return next((Folder(key=k, value=None if value in (NO_VALUE, "") else value) for k, value in folders.items()), None)


def _image_column(schema: pa.Schema, features: "_Features", path: str, wanted: str | None) -> str:
    images = [field.name for field in schema if holds_bytes(field.type)]
    if wanted is not None:
        if wanted not in images:
            raise UserError(
                f"{path}: data.image_column={wanted!r} is no column of images (bytes, or a struct of bytes and path); "
                f"it has {_described(schema)}{nearest(wanted, images)}"
            )
        return wanted
    called = [name for name in images if name.lower() in IMAGE_NAMES]
    declared = [name for name in images if features.get(name, {}).get("_type") == "Image"]
    candidates = called or declared or [name for name in images if name.lower() not in LABEL_NAMES]
    if not candidates:
        raise UserError(
            f"{path}: has no image column (bytes, or a struct of bytes and path); it has {_described(schema)}"
        )
    if len(candidates) > 1:
        raise UserError(f"{path}: the images may be in {_either(candidates)}; choose one with data.image_column")
    return candidates[0]


def _label_column(
    schema: pa.Schema, features: "_Features", path: str, folder: Folder | None, wanted: str | None
) -> str | None:
    if wanted is not None:
        if wanted in schema.names:
            return wanted
        if folder is None:
            raise UserError(
                f"{path}: data.label_column={wanted!r} is neither a column nor the key of a folder above the file; "
                f"it has {_described(schema)}{nearest(wanted, schema.names)}"
            )
        return None
    named = sorted((name for name in schema.names if name.lower() in LABEL_NAMES), key=_preference)
    declared = [field.name for field in schema if features.get(field.name, {}).get("_type") == "ClassLabel"]
    both = [name for name in named if name in declared]
    if named and declared and not both:
        raise UserError(
            f"{path}: the labels may be in {_either([*declared, *named])}; choose one with data.label_column"
        )
    candidates = both or named or _finest(declared)
    if len(candidates) > 1 and (not named or candidates[0].lower() == candidates[1].lower()):
        raise UserError(f"{path}: the labels may be in {_either(candidates)}; choose one with data.label_column")
    if candidates or folder is not None:
        return candidates[0] if candidates else None
    integers = [field.name for field in schema if pa.types.is_integer(plain(field.type))]
    if len(integers) > 1:
        raise UserError(
            f"{path}: has no column called like a label ({', '.join(LABEL_NAMES)}), and the labels may be in "
            f"{_either(integers)}; choose one with data.label_column"
        )
    if not integers:
        raise UserError(
            f"{path}: has no label column ({', '.join(LABEL_NAMES)}, or the only column of integers); data.label_column "
            f"names another one; it has {_described(schema)}"
        )
    return integers[0]


def _preference(name: str) -> tuple[bool, int]:
    """Fine labels before others, then the order of ``LABEL_NAMES``."""
    return name.lower() != "fine_label", LABEL_NAMES.index(name.lower())


def _finest(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("fine")] or names


def _marks(schema: pa.Schema, features: "_Features", image: str, label: str | None) -> tuple[str, ...]:
    """The columns, unless earlier versions read the same ones: they took the first that fitted by type."""
    declared = [field.name for field in schema if features.get(field.name, {}).get("_type") == "Image"]
    images = declared or [field.name for field in schema if holds_bytes(field.type)]
    classes = [field.name for field in schema if features.get(field.name, {}).get("_type") == "ClassLabel"]
    usual = [name for name in LABEL_NAMES[:6] if name in schema.names and _was_label(schema.field(name).type)]
    integers = [field.name for field in schema if pa.types.is_integer(field.type)][:1]
    labels = classes or usual or integers
    first = next((name for name in labels if name.startswith("fine")), next(iter(labels), None))
    return (
        *([f"image column {image}"] if image != next(iter(images), image) else []),
        *([f"label column {label}"] if label is not None and label != first else []),
    )


def _was_label(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


_Features = Mapping[str, Mapping[str, Any]]
"""What Hugging Face's datasets library declares of each column."""


def _features(schema: pa.Schema) -> _Features:
    """The features in the metadata, by column; often empty."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _class_names(feature: Mapping[str, Any], path: str) -> tuple[str, ...]:
    names = feature.get("names")
    if not isinstance(names, list):
        return ()
    bad = [name for name in names if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH]
    if bad:
        raise UserError(
            f"{path}: its metadata name a class {_short(repr(bad[0]))}; needed a text of 1 to {NAME_LENGTH} characters"
        )
    return tuple(names)


def _decoded(text: str) -> str:
    """The text of a hive partition, which writes a slash as %2F; a percent sign that encodes nothing stays."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _either(names: Sequence[str]) -> str:
    return " or ".join(_short(name) for name in names[:4]) + (f" or {len(names) - 4} more" if len(names) > 4 else "")


def _described(schema: pa.Schema) -> str:
    return listed(f"{_short(field.name)} ({_short(str(field.type))})" for field in schema)


def _short(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    return text if len(text) <= 100 else f"{text[:99]}…"
