"""Reads condensed sets: the manifest, its shards with their checksums, and a torch Dataset. No Ray here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import numpy as np
import pyarrow as pa
import torch
from pydantic import NonNegativeInt
from torch import Tensor
from torch.utils.data import Dataset

from m3d import Condensed
from pipeline import storage
from pipeline.errors import UserError, first_line, listed, printable
from pipeline.formats.arrow_batches import read_batches
from pipeline.formats.arrow_schema import FORMAT_VERSION, MANIFEST, METADATA_KEY, SHARD_VERSION
from pipeline.formats.provenance import DataOrigin
from pipeline.storage.documents import Document, read_document, require_format
from pipeline.storage.fields import FileName, Format, Sha256
from pipeline.storage.safe_json import parse_json

if TYPE_CHECKING:
    import datasets

Transform = Callable[[Tensor], Any]
"""What is applied to an image [C, H, W] whenever it is read."""


class ClassEntry(Document):
    """A class of a condensed set."""

    label: int
    name: str
    wnid: str


class ShardEntry(Document):
    """A shard as the manifest describes it."""

    file: FileName
    rows: NonNegativeInt
    sha256: Sha256


class CondensedManifest(Document):
    """condensed/manifest.json."""

    format_version: Annotated[int, Format(FORMAT_VERSION, FORMAT_VERSION)]
    shards: list[ShardEntry]
    classes: list[ClassEntry]
    images_per_class: int
    factor: int
    shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    data: NotRequired[DataOrigin]
    """Missing in manifests of older versions."""
    checksum: str


@dataclass(frozen=True, kw_only=True)
class CondensedShard:
    """Content of one shard."""

    images: np.ndarray
    """float32 in [0, 1], shape [n, C, H, W]."""
    labels: np.ndarray
    """int64 [n]."""
    names: list[str]
    """Class name of each image."""
    ipc_index: np.ndarray
    """Index of each image in its class, int32 [n]."""
    metadata: dict[str, Any]
    """JSON object in the schema's metadata: moments, factor, class order, configuration and versions."""


class CondensedDataset(Dataset[tuple[Tensor, int]]):
    """A condensed set as training images: map-style, in memory, in class order.

    ``images`` float32 [n, C, H, W] and ``labels`` int64 [n] hold the complete set; ``classes`` (or ``class_names``),
    ``class_to_idx``, ``mean`` and ``std`` describe it; ``stored`` is the set before decoding.
    """

    def __init__(
        self,
        stored: Condensed,
        class_names: list[str],
        *,
        decode: bool,
        normalise: bool,
        transform: Transform | None = None,
    ) -> None:
        self.stored, self.class_names, self.mean, self.std = stored, class_names, stored.mean, stored.std
        self.transform = transform
        self._decode, self._normalise = decode, normalise
        self.images, self.labels = self._views(normalise=normalise)

    @property
    def classes(self) -> list[str]:
        """Names of the classes in label order, as torchvision's data sets call them."""
        return self.class_names

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Label of every class by name."""
        return {name: label for label, name in enumerate(self.class_names)}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns the image [C, H, W], transformed if there is a transform, and its label."""
        image = self.images[index]
        return (self.transform(image) if self.transform else image), int(self.labels[index])

    def __repr__(self) -> str:
        side = "x".join(map(str, self.images.shape[1:]))
        factor = self.stored.factor
        kind = "views" if self._decode and factor > 1 else "stored images"
        tiles = f", {factor} x {factor} tiles in each of {self.stored.images_KSCHW.shape[1]} stored images per class"
        scale = "normalised" if self._normalise else "in 0 to 1"
        return (
            f"CondensedDataset({len(self)} {kind} of {side} {scale}, {len(self.class_names)} classes: "
            f"{printable(listed(self.class_names, 5))}{tiles if factor > 1 else ''})"
        )

    def to_hf(self) -> "datasets.Dataset":
        """Returns the images as a data set of Hugging Face, with the columns ``image`` (8-bit PNG) and ``label``.

        Raises:
            UserError: the package ``datasets`` is not installed.
        """
        from pipeline.formats.hub_dataset import hub_dataset

        return hub_dataset(self._views(normalise=False)[0], self.labels, self.class_names)

    def _views(self, *, normalise: bool) -> tuple[Tensor, Tensor]:
        stored = self.stored if self._decode else replace(self.stored, factor=1)
        return stored.views(normalise=normalise)


def load_condensed(
    path: str, *, decode: bool = True, normalise: bool = True, transform: Transform | None = None
) -> CondensedDataset:
    """Returns a condensed set as a torch Dataset; needs no Ray.

    Args:
        path: a run's folder, or the folder with manifest.json and the shards; local or a URL.
        decode: return every tile of a stored image as a full-size image (factor**2 each), rather than the stored images.
        normalise: return (image - mean) / std, on which networks were matched and evaluated, rather than pixels in [0, 1].
        transform: what to apply to an image [C, H, W] whenever it is read by its index, such as a random flip.

    Raises:
        UserError: there is no manifest, or a shard is missing or has another checksum.
    """
    folder = condensed_folder(path)
    manifest = read_manifest(folder)
    shards = [read_shard(storage.join(folder, entry["file"]), entry) for entry in manifest["shards"]]
    if any(list(shard.images.shape[1:]) != list(manifest["shape"]) for shard in shards):
        raise UserError(
            f"{folder}: a shard holds images of another shape than the manifest's {list(manifest['shape'])}"
        )
    images = torch.from_numpy(np.concatenate([shard.images for shard in shards]))
    labels = np.concatenate([shard.labels for shard in shards])
    classes, stored = len(manifest["classes"]), manifest["images_per_class"]
    order = np.lexsort((np.concatenate([shard.ipc_index for shard in shards]), labels))
    if not np.array_equal(labels[order], np.repeat(np.arange(classes), stored)):
        raise UserError(
            f"{folder}: does not hold {stored} images of each of {classes} classes; run `python -m pipeline run` again"
        )
    condensed = Condensed(
        images_KSCHW=images[torch.from_numpy(order)].view(classes, stored, *images.shape[1:]),
        class_ids=tuple(range(classes)),
        factor=manifest["factor"],
        mean=tuple(manifest["mean"]),
        std=tuple(manifest["std"]),
    )
    names = [entry["name"] for entry in manifest["classes"]]
    return CondensedDataset(condensed, names, decode=decode, normalise=normalise, transform=transform)


def condensed_folder(path: str) -> str:
    """Returns the folder of the shards: ``path`` itself, or ``path/condensed`` of a run. Raises UserError if neither holds a set."""
    path = storage.absolute(path)
    inner = storage.join(path, "condensed")
    if storage.exists(storage.join(path, MANIFEST)):
        return path
    if storage.exists(storage.join(inner, MANIFEST)):
        return inner
    if not storage.exists(path):
        raise UserError(f"{path}: does not exist")
    raise UserError(
        f"{path}: holds no finished condensed set (no {MANIFEST}); finish it with `python -m pipeline condense`"
    )


def read_manifest(folder: str) -> CondensedManifest:
    """Returns the manifest of a condensed set. Raises UserError if it is damaged or has a newer format."""
    path = storage.join(folder, MANIFEST)
    manifest = read_document(CondensedManifest, path)
    channels, height, width = manifest["shape"]
    plausible = {
        "classes": [entry["label"] for entry in manifest["classes"]] == list(range(len(manifest["classes"]))),
        "shards": len(manifest["shards"]) > 0,
        "images_per_class": 1 <= manifest["images_per_class"] < 2**31,
        "factor": 1 <= manifest["factor"] <= 16,
        "shape": channels in (1, 3) and 4 <= height == width <= 4096,
        "mean": len(manifest["mean"]) == channels,
        "std": len(manifest["std"]) == channels and all(value > 0 for value in manifest["std"]),
    }
    wrong = [key for key, holds in plausible.items() if not holds]
    if wrong:
        raise UserError(f"{path}: is damaged: {listed(wrong)} cannot be right; restore it or condense again")
    return manifest


def read_shard(path: str, entry: ShardEntry) -> CondensedShard:
    """Returns one shard after comparing ``rows`` and ``sha256`` with its entry of the manifest. Raises UserError if they differ."""
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"{path}: is named by the manifest but does not exist; run the same command again") from None
    if storage.sha256(data) != entry["sha256"]:
        raise UserError(
            f"{path}: its checksum is not the manifest's, the file is damaged; restore it, or delete {MANIFEST} and run the same command again"
        )
    table = parse_shard(data, path)
    if table.num_rows != entry["rows"]:
        raise UserError(f"{path}: has {table.num_rows} rows, the manifest says {entry['rows']}")
    return shard_of(table, path)


def shard_of(table: pa.Table, path: str) -> CondensedShard:
    """Returns the content of a condensed shard's table. Raises UserError if its columns are not those of the schema."""
    kinds = {"label": pa.int64(), "wnid": pa.string(), "class_name": pa.string(), "ipc_index": pa.int32()}
    image = table.schema.field("image").type if "image" in table.column_names else pa.null()
    tensor = isinstance(image, pa.FixedShapeTensorType) and image.value_type == pa.float32() and len(image.shape) == 3
    wrong = [
        name for name, kind in kinds.items() if name not in table.column_names or table.schema.field(name).type != kind
    ]
    if wrong or not tensor or any(table.column(name).null_count for name in ("image", *kinds)):
        raise UserError(
            f"{path}: is not a condensed shard (columns {listed(f'{f.name}: {f.type}' for f in table.schema)})"
        )
    try:
        metadata = parse_json((table.schema.metadata or {})[METADATA_KEY])
    except (KeyError, ValueError):
        raise UserError(
            f"{path}: lacks the metadata {METADATA_KEY.decode()!r}; it was not written by this program"
        ) from None
    if not isinstance(metadata, dict):
        raise UserError(
            f"{path}: its metadata {METADATA_KEY.decode()!r} are no JSON object; it was not written by this program"
        )
    require_format(metadata, "format_version", Format(FORMAT_VERSION, SHARD_VERSION), path)
    return CondensedShard(
        images=table.column("image").combine_chunks().to_numpy_ndarray(),
        labels=table.column("label").to_numpy(),
        names=table.column("class_name").to_pylist(),
        ipc_index=table.column("ipc_index").to_numpy(),
        metadata=metadata,
    )


def parse_shard(data: bytes | memoryview, path: str) -> pa.Table:
    """Returns the table of an Arrow file. Raises UserError if the bytes are not a complete Arrow file."""
    try:
        schema, batches = read_batches(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: is not a complete Arrow file ({first_line(error)})") from None
    return pa.Table.from_batches(batches, schema)
