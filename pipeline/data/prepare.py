"""The prepare stage: Ray tasks decode a source once and write its class shards."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import ray

from m3d import images_needed
from pipeline import storage
from pipeline.config.run_config import Data, Resources, RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_manifest import PreparedManifest, finish, require_rows
from pipeline.data.shard_plan import ShardPlan, chunks, listing_folder, look, plan_shards, unfinished
from pipeline.data.source_report import SourceReport, lines_of
from pipeline.data.sources import open_source
from pipeline.errors import UserError, listed
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import Display, say
from pipeline.runtime import nodes, session
from pipeline.runtime.task_pool import Slots, TaskPool, result
from pipeline.storage import s3
from pipeline.storage.documents import read_document
from pipeline.storage.local.local_files import is_link


def require_per_class(counts: Mapping[str, int], needed: int, validation_fraction: float, why: str) -> None:
    """Raises UserError if a class has fewer training images than ``needed``, and names the smallest.

    Args:
        counts: training images by class name.
        needed: images that every class needs besides those held out for validation.
        validation_fraction: fraction of each class that is held out.
        why: what the number follows from, for the message.
    """
    kept = {name: count - round(count * validation_fraction) for name, count in counts.items()}
    name, count = min(kept.items(), key=lambda item: item[1])
    if count < needed:
        raise UserError(
            f"class {name!r}: has {count} training images, needed {needed} ({why}); lower condense.images_per_class "
            "or condense.factor, set condense.start=random or noise, or leave the class out with data.classes"
        )


TASKS_PER_CPU = 2


def prepare(config: RunConfig, folder: RunFolder, *, condensing: bool = False) -> PreparedDataset:
    """Writes the class shards that a run needs, unless they exist, and returns them opened.

    Args:
        config: configuration of the run; the pixels depend on ``data`` alone.
        folder: folder of the run; the shards are below it unless ``data.cache`` names another place.
        condensing: refuse classes with fewer images than condensing needs, before anything is decoded.

    Raises:
        UserError: from ``plan_shards`` and ``make_shards``, if the source cannot be used.
    """
    if not _joins_cluster(config):
        open_source(config.data)  # the nodes will be this machine: report a wrong path at once
    session.start(config.resources)
    shards = storage.absolute(config.data.cache or folder.class_shards)
    data = absolute_path(config.data)
    plan: ShardPlan = result("prepare", partial(plan_shards, data, shards), Slots(), config.resources)
    _say_report(plan.report)
    for place in (plan.folder, listing_folder(plan.folder)):
        if not is_link(place):
            storage.sweep(place, storage.LEFT_BEHIND_S)
    if condensing:
        require_images(config, dict(zip(plan.titles, plan.counts["train"], strict=True)))
        nodes.placement(config, len(plan.names))  # refuses groups that fit on no node
    if plan.channels_note:
        say(plan.channels_note)
    path = storage.join(plan.folder, MANIFEST)
    if storage.exists(path):
        manifest = read_document(PreparedManifest, path)
        require_rows(manifest)
        say(f"class shards: {_described(manifest)}, reused from {plan.folder}")
        if condensing:
            require_images(config, {entry["name"]: entry["train"]["rows"] for entry in manifest["classes"]})
        return PreparedDataset(plan.folder, config.data)
    manifest = _decode(plan, config.resources)
    say(f"class shards: {_described(manifest)}, written to {plan.folder}")
    _say_skipped(manifest)
    require_rows(manifest)
    if condensing:
        require_images(config, {entry["name"]: entry["train"]["rows"] for entry in manifest["classes"]})
    if plan.test_cut_from_train:
        say(
            f"no test split in the source: {data.test_fraction:.0%} of every class was cut from train (data.split_seed={data.split_seed})"
        )
    return PreparedDataset(plan.folder, config.data)


def look_at_source(config: RunConfig) -> None:
    """Prints what is found in a source and how it is read. Decodes and writes nothing.

    Ray is started only if the nodes of a cluster may see a source that this machine does not see.

    Raises:
        UserError: the source cannot be used, like ``prepare``.
    """
    data = absolute_path(config.data)
    seen_here = data.path is None or storage.exists(data.path)
    if seen_here or not _joins_cluster(config):
        report = look(data)
    else:
        session.start(config.resources)
        report = result("prepare", partial(look, data), Slots(), config.resources)
    _say_report(report)


def require_images(config: RunConfig, counts: dict[str, int]) -> None:
    """Raises UserError if a class has too few training images for the starting images or the baselines."""
    condense = config.condense
    why = f"images_per_class {condense.images_per_class}"
    if condense.start == "mix":
        why += f" x factor {condense.factor}^2 for condense.start=mix"
    needed = max(images_needed(condense), condense.images_per_class)
    require_per_class(counts, needed, config.data.validation_fraction, why)


def absolute_path(data: Data) -> Data:
    """Returns the settings with a path that means the same in every process."""
    return data if data.path is None else replace(data, path=storage.absolute(data.path))


def _make(shared: ray.ObjectRef, labels: list[int], threads: int) -> tuple[int, int]:
    """Number of decoded images, and of repeated requests to the storage."""
    plan: ShardPlan = ray.get(shared)
    before = s3.retries()
    return make_shards(plan, labels, threads), s3.retries() - before


def _decode(plan: ShardPlan, resources: Resources) -> PreparedManifest:
    labels = unfinished(plan)
    cpus = max(1, int(sum(node.cpus for node in nodes.nodes())))
    parts = chunks(plan, labels, cpus * TASKS_PER_CPU, len(nodes.nodes()))
    # With fewer classes than CPUs, every task decodes with several threads.
    largest = max(int(node.cpus) for node in nodes.nodes())
    threads = max(1, min(cpus // max(1, len(parts)), largest))
    slots = Slots(count=max(1, cpus // threads), cpus=threads)
    total = sum(sum(counts) for counts in plan.counts.values())
    done = total - sum(counts[label] for counts in plan.counts.values() for label in labels)
    with Display("prepare", total) as display:
        display.start_at(done)

        def show() -> None:
            display.update(done, f"{done} of {total} images")

        shared = ray.put(plan)  # it names every class, and there are as many calls as classes
        calls = [partial(_make, shared, part, threads) for part in parts]
        with TaskPool("prepare", slots, resources, note=display.note) as pool:
            for _, (decoded, retries) in pool.results(calls, on_tick=show):
                done += decoded
                s3.add_retries(retries)
                show()
    return finish(plan)


def _joins_cluster(config: RunConfig) -> bool:
    return bool(config.resources.address or os.environ.get("RAY_ADDRESS"))


def _say_report(report: SourceReport) -> None:
    for line in lines_of(report):
        say(line)


def _described(manifest: PreparedManifest) -> str:
    counts = {split: sum(entry[split]["rows"] for entry in manifest["classes"]) for split in ("train", "test")}
    channels, height, width = manifest["shape"]
    return f"{counts['train']} train and {counts['test']} test images of {len(manifest['classes'])} classes, {channels}x{height}x{width}"


def _say_skipped(manifest: PreparedManifest) -> None:
    bad = [line for entry in manifest["classes"] for split in ("train", "test") for line in entry[split]["bad"]]
    if bad:
        say(f"{len(bad)} images could not be decoded and were skipped: {listed(bad, most=20)}")
