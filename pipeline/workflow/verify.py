"""Checks a condensed set, a run around it and stored networks, and says what is wrong in sentences. Reads only; no Ray."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.config.parsing import from_dict
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError, listed
from pipeline.evaluate.results import read_rows
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.formats.condensed_reader import CondensedManifest, CondensedShard, read_manifest, read_shard
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import RunRecord
from pipeline.pretrain.reader import ExpertsManifest, experts_folder, load_snapshot, read_experts
from pipeline.storage.settings import activate


def verify(path: str, settings: Sequence[str] = ()) -> tuple[str, list[str]]:
    """What was checked, and what is wrong: an empty list where nothing is.

    Args:
        path: absolute; a run's folder, the folder of a condensed set, or one that ``pretrain`` made.
        settings: storage.* that differ from the run's own.

    Raises:
        UserError: there is none of them.
    """
    inner = storage.join(path, "condensed")
    is_run = storage.exists(storage.join(path, "config.json"))

    def holds_a_set(folder: str) -> bool:
        return storage.exists(storage.join(folder, MANIFEST)) or bool(storage.files_below(folder, ".arrow"))

    folder = path if not is_run and holds_a_set(path) else inner
    networks = [name for name in storage.folders_below(RunFolder(path).experts) if _begun(path, name)]
    if not is_run and not networks and not holds_a_set(folder):
        what = (
            "holds neither a run (config.json) nor a condensed set (manifest.json) nor networks (experts)"
            if storage.exists(path)
            else "does not exist"
        )
        raise UserError(f"{path}: {what}; give the folder that was --out of `run`, or the one that holds manifest.json")
    wrong: list[str] = []
    record = _attempt(lambda: RunFolder(path).read_record(), wrong) if is_run else None
    only_networks = networks and not is_run and not holds_a_set(folder)
    manifest = None if only_networks else _attempt(lambda: _manifest(folder), wrong)
    checked = []
    if manifest:
        checked += [f"{len(manifest['classes'])} classes", f"{_condensed(folder, manifest, wrong)} shards"]
    if record:
        _run(path, record, manifest, settings, wrong)
        checked.append("the run around them")
    if networks:
        checked.append(f"{_snapshots(path, networks, wrong)} snapshots of networks")
    return f"nothing is wrong ({', '.join(checked)})", wrong


def _attempt(check: Callable[[], Any], wrong: list[str]) -> Any:
    try:
        return check()
    except UserError as error:
        wrong.append(str(error))
        return None


def _manifest(folder: str) -> CondensedManifest:
    if not storage.exists(storage.join(folder, MANIFEST)):
        raise UserError(
            f"{folder}: has no {MANIFEST}: the condensed set was never finished; `run` or `condense` goes on with it"
        )
    return read_manifest(folder)


def _condensed(folder: str, manifest: CondensedManifest, wrong: list[str]) -> int:
    found: dict[int, list[int]] = {}
    names = {entry["label"]: entry["name"] for entry in manifest["classes"]}
    for entry in manifest["shards"]:
        path = storage.join(folder, entry["file"])
        shard = _attempt(lambda path=path, entry=entry: read_shard(path, entry), wrong)
        if shard is not None:
            _shard(path, shard, manifest, names, wrong)
            for label, index in zip(shard.labels.tolist(), shard.ipc_index.tolist(), strict=True):
                found.setdefault(label, []).append(index)
    whole = list(range(manifest["images_per_class"]))
    missing = [name for label, name in names.items() if label not in found]
    partial = [name for label, name in names.items() if label in found and sorted(found[label]) != whole]
    if missing:
        wrong.append(f"{folder}: classes without an image: {listed(missing)}")
    if partial:
        wrong.append(f"{folder}: classes that do not hold images 0 to {whole[-1]} once each: {listed(partial)}")
    named = {entry["file"] for entry in manifest["shards"]}
    strays = [name for name in storage.files_below(folder, ".arrow") if name not in named]
    if strays:
        wrong.append(f"{folder}: shards that the manifest does not name: {listed(strays)}; they belong to no set")
    return len(manifest["shards"])


def _shard(
    path: str, shard: CondensedShard, manifest: CondensedManifest, names: dict[int, str], wrong: list[str]
) -> None:
    if list(shard.images.shape[1:]) != list(manifest["shape"]):
        wrong.append(
            f"{path}: images have shape {list(shard.images.shape[1:])}, the manifest says {list(manifest['shape'])}"
        )
    if not np.isfinite(shard.images).all():
        wrong.append(f"{path}: has pixels that are not finite")
    elif shard.images.size and (shard.images.min() < 0 or shard.images.max() > 1):
        wrong.append(f"{path}: pixels reach from {shard.images.min():g} to {shard.images.max():g}, outside 0 to 1")
    misnamed = sorted(
        {name for label, name in zip(shard.labels.tolist(), shard.names, strict=True) if names.get(label) != name}
    )
    if misnamed:
        wrong.append(f"{path}: class names that are not the manifest's for their labels: {listed(misnamed)}")
    for key in ("mean", "std", "factor"):
        if shard.metadata.get(key) != manifest[key]:
            wrong.append(f"{path}: says {key} {shard.metadata.get(key)}, the manifest says {manifest[key]}")
    order = [names[label] for label in sorted(names)]
    if shard.metadata.get("class_order") != order:
        wrong.append(f"{path}: its class order is not the manifest's")


def _snapshots(path: str, architectures: Sequence[str], wrong: list[str]) -> int:
    """How many the manifests name; each is read and its checksum compared."""
    named = 0
    for architecture in architectures:
        manifest = _attempt(lambda architecture=architecture: _networks(path, architecture), wrong)
        for record in manifest["trajectories"] if manifest else []:
            for entry in record["snapshots"]:
                _attempt(lambda name=architecture, entry=entry: load_snapshot(RunFolder(path), name, entry), wrong)
                named += 1
    return named


def _begun(path: str, architecture: str) -> bool:
    """Whether there is more than a refused training leaves."""
    return bool(storage.files_below(experts_folder(RunFolder(path), architecture), ".json"))


def _networks(path: str, architecture: str) -> ExpertsManifest:
    manifest = read_experts(RunFolder(path), architecture)
    if manifest is None:
        raise UserError(
            f"{experts_folder(RunFolder(path), architecture)}: has no {MANIFEST}: the networks were never finished; `pretrain` goes on with them"
        )
    return manifest


def _run(
    path: str, record: RunRecord, manifest: CondensedManifest | None, settings: Sequence[str], wrong: list[str]
) -> None:
    origin = storage.join(path, "config.json")
    config = _attempt(lambda: from_dict(record, origin=origin), wrong)
    _attempt(lambda: read_rows(RunFolder(path)), wrong)
    if config is None:
        return
    activate(config, settings)  # the class shards may lie elsewhere
    if manifest:
        if [entry["name"] for entry in manifest["classes"]] != record["resolved"]["classes"]:
            wrong.append(f"{path}: the classes of the condensed set are not those of config.json")
        for key in ("images_per_class", "factor"):
            if manifest[key] != getattr(config.condense, key):
                wrong.append(
                    f"{path}: the condensed set has {key} {manifest[key]}, config.json says {getattr(config.condense, key)}"
                )
    folder = record["resolved"]["class_shards"]
    if storage.exists(storage.join(folder, MANIFEST)):
        cache = _attempt(lambda: PreparedDataset(folder, config.data), wrong)
        for entry in cache.classes if cache else []:
            for split in ("train", "test"):
                _attempt(lambda split=split, label=entry["label"]: cache.images(split, label), wrong)
