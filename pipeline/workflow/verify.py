"""Checks a condensed set, a run around it and stored networks, and says what is wrong in sentences. Reads only; no Ray."""

from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

import numpy as np

from pipeline import storage
from pipeline.config.parsing import from_dict
from pipeline.data.prepared_dataset import PreparedDataset, found_class_shards, left_out_shards
from pipeline.errors import UserError, listed
from pipeline.evaluate.results import confusion_of, read_rows
from pipeline.formats.arrow_schema import MANIFEST, SHARD_VERSION
from pipeline.formats.condensed_reader import CondensedManifest, CondensedShard, read_manifest, read_shard
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import RunRecord
from pipeline.observability.progress import say
from pipeline.pretrain.reader import ExpertsManifest, experts_folder, load_snapshot, read_experts
from pipeline.storage.settings import adopt, repeat

P = ParamSpec("P")
T = TypeVar("T")


class Findings:
    """Collects what is wrong, a sentence each, so that one damaged file does not end the other checks."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        """Records that something is wrong."""
        self.sentences.append(sentence)

    def attempt(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Returns what ``read`` returns, or records its UserError and returns None."""
        try:
            return read(*args, **kwargs)
        except UserError as error:
            self.add(str(error))
            return None


def verify(path: str, settings: Sequence[str] = ()) -> tuple[str, list[str]]:
    """Checks everything that a folder contains.

    Args:
        path: the folder of a run, of a condensed set, or one that ``pretrain`` made.
        settings: changes of storage.*, as ``--set`` accepts them.

    Returns:
        A sentence that says what was checked, and a sentence for everything that is wrong.

    Raises:
        UserError: the folder is none of these.
    """
    home = RunFolder.at(path)
    is_run = storage.exists(home.config_json)
    folder = home.path if not is_run and _has_set(home.path) else home.condensed
    has_set = is_run or _has_set(folder)
    architectures = [name for name in storage.folders_below(home.experts) if _has_networks(home, name)]
    if not has_set and not architectures:
        raise _nothing_to_verify(home)
    findings, checked = Findings(), []
    record = findings.attempt(home.read_record) if is_run else None
    manifest = findings.attempt(_finished_manifest, folder) if has_set else None
    if manifest:
        _check_set(folder, manifest, findings)
        checked += [f"{len(manifest['classes'])} classes", f"{len(manifest['shards'])} shards"]
    _check_evaluation(home, findings)
    if record:
        _check_run(home, record, manifest, settings, findings)
        checked.append("the run around them")
    if architectures:
        count = sum(_check_snapshots(home, architecture, findings) for architecture in architectures)
        checked.append(f"{count} snapshots of networks")
    return f"nothing is wrong ({', '.join(checked)})", findings.sentences


def _has_set(folder: str) -> bool:
    return storage.exists(storage.join(folder, MANIFEST)) or bool(storage.files_below(folder, ".arrow"))


def _has_networks(home: RunFolder, architecture: str) -> bool:
    """Whether the folder contains more than a refused training leaves."""
    return bool(storage.files_below(experts_folder(home, architecture), ".json"))


def _nothing_to_verify(home: RunFolder) -> UserError:
    what = (
        "holds neither a run (config.json) nor a condensed set (manifest.json) nor networks (experts)"
        if home.exists()
        else "does not exist"
    )
    return UserError(f"{home}: {what}; give the folder that was --out of `run`, or the one that holds manifest.json")


def _finished_manifest(folder: str) -> CondensedManifest:
    if not storage.exists(storage.join(folder, MANIFEST)):
        raise UserError(
            f"{folder}: has no {MANIFEST}: the condensed set was never finished; `run` or `condense` goes on with it"
        )
    return read_manifest(folder)


def _check_set(folder: str, manifest: CondensedManifest, findings: Findings) -> None:
    """Checks the shards one by one, then that together they have every image once."""
    indices: dict[int, list[int]] = {}
    names = {entry["label"]: entry["name"] for entry in manifest["classes"]}
    for entry in manifest["shards"]:
        path = storage.join(folder, entry["file"])
        shard = findings.attempt(read_shard, path, entry)
        if shard is not None:
            _check_shard(path, shard, manifest, names, findings)
            for label, index in zip(shard.labels.tolist(), shard.ipc_index.tolist(), strict=True):
                indices.setdefault(label, []).append(index)
    count = manifest["images_per_class"]
    missing = [name for label, name in names.items() if label not in indices]
    partial = [name for label, name in names.items() if label in indices and not _has_each_once(indices[label], count)]
    if missing:
        findings.add(f"{folder}: classes without an image: {listed(missing)}")
    if partial:
        findings.add(f"{folder}: classes that do not hold images 0 to {count - 1} once each: {listed(partial)}")
    in_manifest = {entry["file"] for entry in manifest["shards"]}
    strays = [name for name in storage.files_below(folder, ".arrow") if name not in in_manifest]
    if strays:
        findings.add(f"{folder}: shards that the manifest does not name: {listed(strays)}; they belong to no set")


def _has_each_once(indices: Sequence[int], count: int) -> bool:
    """Whether they are 0 to count - 1 in any order. The count is a manifest's, so memory follows the indices."""
    return len(indices) == count and sorted(indices) == list(range(count))


def _check_shard(
    path: str, shard: CondensedShard, manifest: CondensedManifest, names: Mapping[int, str], findings: Findings
) -> None:
    """Checks what a shard contains against the manifest, whose class names are given by label, in label order."""
    if list(shard.images.shape[1:]) != list(manifest["shape"]):
        findings.add(
            f"{path}: images have shape {list(shard.images.shape[1:])}, the manifest says {list(manifest['shape'])}"
        )
    if not np.isfinite(shard.images).all():
        findings.add(f"{path}: has pixels that are not finite")
    elif shard.images.size and (shard.images.min() < 0 or shard.images.max() > 1):
        findings.add(f"{path}: pixels reach from {shard.images.min():g} to {shard.images.max():g}, outside 0 to 1")
    misnamed = sorted(
        {name for label, name in zip(shard.labels.tolist(), shard.names, strict=True) if names.get(label) != name}
    )
    if misnamed:
        findings.add(f"{path}: class names that are not the manifest's for their labels: {listed(misnamed)}")
    for key in ("mean", "std", "factor"):
        if shard.metadata.get(key) != manifest[key]:
            findings.add(f"{path}: says {key} {shard.metadata.get(key)}, the manifest says {manifest[key]}")
    lists_classes = shard.metadata.get("format_version") != SHARD_VERSION or "class_order" in shard.metadata
    if lists_classes and shard.metadata.get("class_order") != list(names.values()):
        findings.add(f"{path}: its class order is not the manifest's")


def _check_evaluation(home: RunFolder, findings: Findings) -> None:
    """Checks that evaluation.json and the confusion matrices of its rows can be read."""
    for row in findings.attempt(read_rows, home) or ():
        findings.attempt(confusion_of, row, home)


def _check_snapshots(home: RunFolder, architecture: str, findings: Findings) -> int:
    """Reads every snapshot that the manifest names and compares its checksum. Returns how many it names."""
    manifest = findings.attempt(_finished_networks, home, architecture)
    entries = [entry for record in manifest["trajectories"] for entry in record["snapshots"]] if manifest else []
    for entry in entries:
        findings.attempt(load_snapshot, home, architecture, entry)
    return len(entries)


def _finished_networks(home: RunFolder, architecture: str) -> ExpertsManifest:
    manifest = read_experts(home, architecture)
    if manifest is None:
        raise UserError(
            f"{experts_folder(home, architecture)}: has no {MANIFEST}: the networks were never finished; "
            "`pretrain` goes on with them"
        )
    return manifest


def _check_run(
    home: RunFolder,
    record: RunRecord,
    manifest: CondensedManifest | None,
    settings: Sequence[str],
    findings: Findings,
) -> None:
    """Checks that configuration and class shards can be read, and that the condensed set is of the run."""
    config = findings.attempt(from_dict, record, origin=home.config_json)
    if config is None:
        return
    adopted = adopt(config, settings)
    if manifest:
        if [entry["name"] for entry in manifest["classes"]] != record["resolved"]["classes"]:
            findings.add(f"{home}: the classes of the condensed set are not those of config.json")
        for key in ("images_per_class", "factor"):
            stored, configured = manifest[key], getattr(config.condense, key)
            if stored != configured:
                findings.add(f"{home}: the condensed set has {key} {stored}, config.json says {configured}")
    shards = record["resolved"]["class_shards"]
    place = findings.attempt(found_class_shards, shards, home, adopted.config)
    if place is not None:
        dataset = findings.attempt(PreparedDataset, place, adopted.config.data)
        if dataset is not None:
            _check_images(dataset, findings)
    elif left_out := left_out_shards(shards, home, adopted.left_out):
        say(f"not checked: the class shards in {shards}; {repeat(left_out)}")


def _check_images(dataset: PreparedDataset, findings: Findings) -> None:
    """Reads every class shard and compares its checksum."""
    for entry in dataset.classes:
        for split in ("train", "test"):
            findings.attempt(dataset.images, split, entry["label"])
