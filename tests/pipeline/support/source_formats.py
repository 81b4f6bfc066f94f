"""Writes the images of a folder as Parquet and WebDataset, as users have them."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def images_of(root: Path) -> list[tuple[str, str, Path]]:
    """Split, class and file of every image of a folder, sorted by relative path."""
    return sorted((path.parts[-3], path.parts[-2], path) for path in root.glob("*/*/*") if path.is_file())


def write_parquet(
    root: Path, into: Path, *, paths: bool = True, shuffled: bool = False, files: int = 1, group: int = 5
) -> Path:
    """Writes SPLIT-00000.parquet and so on in the hub's layout, with named classes and row groups of ``group`` rows."""
    classes = sorted({name for _, name, _ in images_of(root)})
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": classes}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    into.mkdir(parents=True, exist_ok=True)
    for split in sorted({split for split, _, _ in images_of(root)}):
        images = [(name, path) for own, name, path in images_of(root) if own == split]
        if shuffled:
            images = [images[i * 7 % len(images)] for i in range(len(images))] if len(images) % 7 else images[::-1]
        for number in range(files):
            part = images[len(images) * number // files : len(images) * (number + 1) // files]
            cells = [{"bytes": path.read_bytes(), "path": path.name if paths else None} for _, path in part]
            columns = {"image": pa.array(cells, STRUCT), "label": pa.array([classes.index(name) for name, _ in part])}
            table = pa.table(columns).replace_schema_metadata(metadata)
            pq.write_table(table, into / f"{split}-{number:05d}.parquet", row_group_size=group)
    return into


def write_partitions(root: Path, into: Path) -> Path:
    """Writes SPLIT/label=CLASS/part.parquet without a label column."""
    for split, name in sorted({(split, name) for split, name, _ in images_of(root)}):
        paths = [path for own, other, path in images_of(root) if (own, other) == (split, name)]
        place = into / split / f"label={name}"
        place.mkdir(parents=True)
        cells = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
        pq.write_table(pa.table({"image": pa.array(cells, STRUCT)}), place / "part.parquet")
    return into


def write_tars(root: Path, into: Path, *, style: str = "cls", shuffled: bool = False, files: int = 2) -> Path:
    """Writes SPLIT-000000.tar and so on, with the class in .cls, in .json or in the key's folder."""
    into.mkdir(parents=True, exist_ok=True)
    for split in sorted({split for split, _, _ in images_of(root)}):
        images = [(name, path) for own, name, path in images_of(root) if own == split]
        if shuffled:
            images = [images[i * 7 % len(images)] for i in range(len(images))] if len(images) % 7 else images[::-1]
        for number in range(files):
            with tarfile.open(into / f"{split}-{number:06d}.tar", "w") as tar:
                for name, path in images[len(images) * number // files : len(images) * (number + 1) // files]:
                    key = f"{name}/{path.stem}" if style == "folder" else f"{name}-{path.stem}"
                    _add(tar, f"{key}{path.suffix}", path.read_bytes())
                    if style == "cls":
                        _add(tar, f"{key}.cls", name.encode())
                    if style == "json":
                        _add(tar, f"{key}.json", json.dumps({"wnid": name}).encode())
    return into


def upload(root: Path, into: str) -> str:
    """Copies a folder into a bucket."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            storage.write_bytes(f"{into}/{path.relative_to(root).as_posix()}", path.read_bytes())
    return into


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
