"""Labels of Parquet files as compact arrays, and the classes that they belong to.

Every row has a small number, its code, that stands for one of the few values of its file: 60 million equal labels are
never 60 million objects.
"""

import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.data.sources.file_layout import WHOLE_NUMBER, in_label_order
from pipeline.data.sources.findings import EXAMPLES, LeftOut
from pipeline.data.sources.parquet.arrow_types import LabelKind
from pipeline.data.sources.parquet.columns import NAME_LENGTH, Folder
from pipeline.data.sources.parquet.file import dictionary_of
from pipeline.errors import UserError, listed

MOST_CLASSES = 1_000_000
"""Most different labels of a file."""
NO_CLASS = -1
"""Label that the hub gives to the images of test splits whose classes are secret."""

Value = int | str | bool
"""What a label may be; the labels of a source are all of one type."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels of the rows of a file."""

    origin: str
    """Where they are stored, such as ``column 'label'``, for messages."""
    kind: LabelKind
    values: tuple[Value, ...]
    """The different labels, in the order in which they first occur."""
    codes: np.ndarray
    """int32 [rows]: the position of each row's label in ``values``, -1 for a row without a label."""


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of a source, in label order."""

    names: tuple[str, ...]
    values: tuple[Value, ...]
    """The label of each class in the files."""
    are_declared: bool
    """Whether the hub's metadata name the classes, so that -1 stands for no class."""

    def of_rows(self, labels: Labels) -> np.ndarray:
        """Returns the class of each row, int32; -1 for a row without a class."""
        return self._of_codes(labels)[labels.codes]

    def counts(self, labels: Labels) -> np.ndarray:
        """Returns the number of rows of each class."""
        classes = self._of_codes(labels)
        counts = np.zeros(len(self.names), np.int64)
        known = classes[:-1] >= 0
        np.add.at(counts, classes[:-1][known], _code_counts(labels)[:-1][known])
        return counts

    def unlabelled(self, labels: Labels) -> np.ndarray:
        """Returns for each row whether it has no label: null, or -1 where the classes have names."""
        none = [value == NO_CLASS and self.are_declared for value in labels.values]
        return np.array([*none, True])[labels.codes]

    def _of_codes(self, labels: Labels) -> np.ndarray:
        """The class of every code, and at last that of rows without a label."""
        positions = {value: position for position, value in enumerate(self.values)}
        return np.array([*(positions.get(value, -1) for value in labels.values), -1], np.int32)


class LabelEncoder:
    """Collects the labels of a file, batch by batch."""

    def __init__(self, kind: LabelKind, column: str, path: str) -> None:
        self._kind: LabelKind = kind
        self._column, self._path = column, path
        self._codes: dict[Value, int] = {}
        self._parts: list[np.ndarray] = []

    def add(self, labels: pa.Array) -> None:
        """Adds a batch.

        Raises:
            UserError: a value cannot be a label, or there are too many different ones.
        """
        encoded = dictionary_of(labels, self._path)
        indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        codes = np.full(len(encoded.dictionary) + 1, -1, np.int32)  # the last is that of null
        used = np.unique(indices)
        used = used[used >= 0]
        try:
            values = encoded.dictionary.take(pa.array(used)).to_pylist()
        except UnicodeDecodeError:
            raise self._refusal("text that is not UTF-8") from None
        codes[used] = [self._code(value) for value in values]
        self._parts.append(codes[indices])

    def finish(self) -> Labels:
        """Returns the labels of all batches."""
        parts = self._parts or [np.zeros(0, np.int32)]
        return Labels(
            origin=f"column {self._column!r}", kind=self._kind, values=tuple(self._codes), codes=np.concatenate(parts)
        )

    def _code(self, raw: Any) -> int:
        value = self._value(raw)
        if value is None:
            return -1
        code = self._codes.setdefault(value, len(self._codes))
        if code >= MOST_CLASSES:
            raise UserError(
                f"{self._path}: column {self._column!r} has more than {MOST_CLASSES} different labels; "
                "choose another column with data.label_column"
            )
        return code

    def _value(self, raw: Any) -> Value | None:
        """A label as an integer, a truth value or a text; None for no label."""
        if raw is None or isinstance(raw, bool):
            return raw
        if isinstance(raw, bytes):
            try:
                raw = raw.rstrip(b"\0").decode()
            except UnicodeDecodeError:
                raise self._refusal("bytes that are no text") from None
        if isinstance(raw, str):
            if len(raw) > NAME_LENGTH:
                raise self._refusal(f"a text of {len(raw)} characters, more than {NAME_LENGTH}")
            return raw or None
        if isinstance(raw, float | decimal.Decimal) and raw != raw:
            return None
        if isinstance(raw, float | decimal.Decimal) and (abs(raw) >= 2**63 or raw != int(raw)):
            raise self._refusal(str(raw)[:50])
        return int(raw)

    def _refusal(self, what: str) -> UserError:
        return UserError(
            f"{self._path}: column {self._column!r} holds {what}; labels must be whole numbers or text; "
            "data.label_column names another column"
        )


def folder_labels(folders: Mapping[str, Folder], rows: Mapping[str, int]) -> dict[str, Labels]:
    """Returns the labels of files whose folder names their class, by file.

    They are integers if all of them are whole numbers as they are usually written, else text: ``01`` is not ``1``.

    Args:
        folders: the folder of each file.
        rows: rows of each file.
    """
    texts = [folder.value for folder in folders.values() if folder.value is not None]
    whole = all(WHOLE_NUMBER.fullmatch(text) and str(int(text)) == text for text in texts)
    labels = {}
    for file, folder in folders.items():
        text = folder.value
        kind: LabelKind = "nothing" if text is None else "integers" if whole else "text"
        values = () if text is None else (int(text) if whole else text,)
        codes = np.broadcast_to(np.int32(-1 if text is None else 0), rows[file])
        labels[file] = Labels(origin=f"folder {folder.key!r}", kind=kind, values=values, codes=codes)
    return labels


def require_one_kind(labels: Mapping[str, Labels]) -> None:
    """Raises UserError if labels of two files are of different types, by the paths of the files."""
    first: dict[LabelKind, str] = {}
    for path, own in labels.items():
        if own.kind != "nothing" and own.values:
            first.setdefault(own.kind, path)
    if len(first) > 1:
        (kind, path), (other, other_path) = list(first.items())[:2]
        raise UserError(
            f"labels are {kind} in {path} and {other} in {other_path}; store them as one type, or choose a column of one "
            "type with data.label_column"
        )


def classes_of(train: Mapping[str, Labels], declared: Sequence[str], where: str) -> Classes:
    """Returns the classes of training files.

    Args:
        train: labels of the training files by their paths, all of one type.
        declared: names of the classes 0, 1, ... by the hub's metadata; empty if there are none.
        where: the source, for messages.

    Raises:
        UserError: there are no rows, rows without a label, or labels that are none of the declared classes.
    """
    counts = {path: _code_counts(labels) for path, labels in train.items()}
    if not sum(int(count.sum()) for count in counts.values()):
        raise UserError(f"{where}: its training files hold no rows")
    missing = {path: int(count[-1]) for path, count in counts.items() if count[-1]}
    if missing:
        path = next(iter(missing))
        raise UserError(f"{where}: {sum(missing.values())} rows have no label, the first in {path}; drop them first")
    values = {value for path, labels in train.items() for value in labels.values}
    if not declared:
        ordered = in_label_order(values)
        return Classes(names=tuple(map(str, ordered)), values=tuple(ordered), are_declared=False)
    are_texts = any(isinstance(value, str) for value in values)
    allowed: tuple[Value, ...] = tuple(declared) if are_texts else tuple(range(len(declared)))
    require_declared(train, declared)
    return Classes(names=tuple(declared), values=allowed, are_declared=True)


def require_declared(files: Mapping[str, Labels], declared: Sequence[str], *, or_none: bool = False) -> None:
    """Raises UserError if labels are none of the declared classes.

    Args:
        files: labels by the paths of their files.
        declared: names of the classes 0, 1, ...
        or_none: whether -1, for no class, is allowed.
    """
    texts = set(declared)
    for path, labels in files.items():
        strays = sorted(
            value
            for value in labels.values
            if not (value in texts if isinstance(value, str) else -or_none <= value < len(declared))
        )
        if strays:
            raise UserError(
                f"{path}: {labels.origin} holds {listed(map(str, strays))}, outside its {len(declared)} named classes"
            )


def left_out_rows(files: Mapping[str, Labels], classes: Classes) -> list[LeftOut]:
    """Returns the rows of files for testing that are no test images, by reason; the files by their names."""
    reasons = {"no label": classes.unlabelled, "a label that no training image has": None}
    entries = []
    for reason, chosen in reasons.items():
        count, examples = 0, []
        for name, labels in files.items():
            no_label = classes.unlabelled(labels)
            rows = np.flatnonzero(no_label if chosen else (classes.of_rows(labels) < 0) & ~no_label)
            count += len(rows)
            examples += [storage.readable(f"{name}[{row}]") for row in rows[: EXAMPLES - len(examples)]]
        if count:
            entries.append(LeftOut(reason=reason, count=count, unit="row", examples=tuple(examples)))
    return entries


def _code_counts(labels: Labels) -> np.ndarray:
    """Rows of every code, and at last those without a label."""
    codes = labels.codes
    if codes.strides == (0,):  # one label for all rows
        counts = np.zeros(len(labels.values) + 1, np.int64)
        counts[codes[0] if len(codes) else -1] = len(codes)
        return counts
    return np.roll(np.bincount(codes + 1, minlength=len(labels.values) + 1), -1)
