"""Makes condensed shards, one Arrow file per group of classes, and writes sets that no run made."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from m3d import Condensed
from pipeline import storage
from pipeline.errors import UserError, repeated
from pipeline.formats.arrow_schema import (
    FORMAT_VERSION,
    LISTED_CLASSES,
    MANIFEST,
    SHARD_VERSION,
    condensed_schema,
    tensor_array,
)
from pipeline.formats.condensed_reader import ClassEntry
from pipeline.formats.provenance import versions
from pipeline.storage.documents import write_document
from pipeline.storage.local.new_folder import new_folder

DECODE = "split into factor x factor tiles, pad right and bottom with 0.5, up-sample bilinearly (align_corners=False)"
"""How stored images become training images, in words, for the metadata of shards."""
IN_CODE = "m3d.condense"
"""What sets that ``save_condensed`` writes name as their source."""
SHARD_BYTES = 2**28
"""Bytes of images in a shard of a set that no run made, unless a single class has more."""


def save_condensed(
    condensed: Condensed, path: str, class_names: Sequence[str] | None = None, *, name: str = ""
) -> None:
    """Writes a condensed set, such as the result of ``m3d.condense``, into a new folder that ``load_condensed`` reads.

    Args:
        condensed: the set. Its classes are stored in the order of their labels.
        path: folder, local or by URL, that does not exist yet or is empty.
        class_names: name of every class by label. Defaults to the labels as text.
        name: name of the data that the set was made from.

    Raises:
        UserError: the folder is not empty, there are not as many different names as classes, the labels are not 0 to
            classes - 1, or pixels are not within 0 to 1.
    """
    order = sorted(range(len(condensed.class_ids)), key=condensed.class_ids.__getitem__)
    labels = [condensed.class_ids[place] for place in order]
    names = [str(label) for label in labels] if class_names is None else list(class_names)
    if labels != list(range(len(labels))):
        raise UserError(f"class_ids: given {labels[:10]}, needed 0 to {len(labels) - 1}, each once")
    if len(names) != len(labels) or repeated(names):
        raise UserError(f"class_names: given {len(set(names))} different names, needed {len(labels)}")
    images = condensed.images_KSCHW.detach().cpu().float()[torch.tensor(order)]
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise UserError("images: have pixels outside of 0 to 1; a condensed set stores pixels that are not normalised")
    classes = [ClassEntry(label=label, name=text, wnid="") for label, text in enumerate(names)]
    data = {"name": name or "unnamed", "licence": None, "source": IN_CODE, "images": {}}
    write_set(path, _with_images(condensed, images), classes, {"data": data})


def write_set(path: str, condensed: Condensed, classes: Sequence[ClassEntry], about: Mapping[str, Any]) -> None:
    """Writes shards and manifest into a new folder, visible at once; in a bucket the manifest is written last.

    Args:
        path: folder, local or by URL.
        condensed: images of the classes in label order, on the CPU.
        classes: label, name and WordNet id of every class, in label order.
        about: further keys of the manifest, such as where the set comes from.

    Raises:
        UserError: the folder is not empty or cannot be written.
    """
    images = condensed.images_KSCHW.numpy()
    classes = [
        ClassEntry(label=each["label"], name=storage.readable(each["name"]), wnid=storage.readable(each["wnid"]))
        for each in classes  # names of files and documents need not be UTF-8, those in shards must be
    ]
    installed = versions()
    metadata = {
        "format_version": FORMAT_VERSION if len(classes) <= LISTED_CLASSES else SHARD_VERSION,
        "mean": list(condensed.mean),
        "std": list(condensed.std),
        "factor": condensed.factor,
        "decode": DECODE,
        "subset": about.get("data", {}).get("name"),
        "config": {},
        "versions": installed,
    }
    if len(classes) <= LISTED_CLASSES:
        metadata["class_order"] = [entry["name"] for entry in classes]
    together = max(1, SHARD_BYTES // max(1, images[0].nbytes))
    entries = []
    with new_folder(storage.absolute(path)) as folder:
        for number, start in enumerate(range(0, len(classes), together)):
            group = slice(start, start + together)
            shard = condensed_shard(images[group], classes[group], metadata)
            file = f"shard-{number:05d}.arrow"
            storage.write_bytes(storage.join(folder, file), shard)
            rows = images.shape[1] * len(classes[group])
            entries.append({"file": file, "rows": rows, "sha256": storage.sha256(shard)})
        manifest = {
            "format_version": FORMAT_VERSION,
            "shards": entries,
            "images_per_class": images.shape[1],
            "factor": condensed.factor,
            "shape": list(images.shape[2:]),
            "mean": list(condensed.mean),
            "std": list(condensed.std),
            "classes": classes,
            "versions": installed,
        }
        write_document(storage.join(folder, MANIFEST), {**manifest, **about})


def _with_images(condensed: Condensed, images: torch.Tensor) -> Condensed:
    return Condensed(
        images_KSCHW=images,
        class_ids=tuple(range(len(images))),
        factor=condensed.factor,
        mean=condensed.mean,
        std=condensed.std,
    )


def condensed_shard(
    images: np.ndarray, classes: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
) -> memoryview:
    """Returns an Arrow file of one group's stored images, class by class.

    Args:
        images: float32 in [0, 1], shape [classes, stored, C, H, W].
        classes: label, wnid and name of each class.
        metadata: moments, factor, class order, configuration and versions, which a reader needs besides.
    """
    count, stored = images.shape[:2]
    flat = np.ascontiguousarray(images.reshape(count * stored, *images.shape[2:]))
    schema = condensed_schema(_shape(flat), metadata)

    def repeated(key: str, kind: pa.DataType) -> pa.Array:
        return pa.array([entry[key] for entry in classes for _ in range(stored)], kind)

    columns = [
        tensor_array(flat, schema),
        repeated("label", pa.int64()),
        repeated("wnid", pa.string()),
        repeated("name", pa.string()),
        pa.array(list(range(stored)) * count, pa.int32()),
    ]
    return _file(schema, columns)


def _shape(images: np.ndarray) -> tuple[int, int, int]:
    channels, height, width = images.shape[1:]
    return channels, height, width


def _file(schema: pa.Schema, columns: list[pa.Array]) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return memoryview(sink.getvalue())
