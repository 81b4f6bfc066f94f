"""The condense stage: class shards in, a committed condensed set out."""

from collections.abc import Sequence
from typing import NoReturn

from m3d.backend.execution import Execution
from pipeline.condense.driver import drive
from pipeline.condense.group_store import GroupStore
from pipeline.condense.manifest import condensed_manifest, identity, new_record, run_name, shard_metadata
from pipeline.condense.monitor import CondenseMonitor
from pipeline.condense.task import GroupTask
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import FailedError, UserError, first_line
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import RunRecord, add_commit
from pipeline.observability.progress import Display, say
from pipeline.runtime import nodes, session
from pipeline.runtime.placement import Placement, capacity, does_not_fit, fits, smallest_gpu, stored_placement


def condense(config: RunConfig, folder: RunFolder, dataset: PreparedDataset) -> None:
    """Condenses all classes and commits the set. A repeated call of the same run does what is missing.

    Args:
        config: of the run.
        folder: of the run.
        dataset: its class shards.

    Raises:
        UserError: no node can hold an actor, or a loss is not finite.
        FailedError: a group failed for another reason; the others are finished.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    session.start(config.resources)
    record = folder.read_record()
    placement = _placement(config, len(dataset.classes), record)
    if record is None:
        record = new_record(config, dataset, placement)
        folder.write_record(record)
    store = GroupStore(folder, identity(record))
    store.sweep()
    todo = [group for group in range(len(placement.groups)) if not store.finished(group)]
    if todo and add_commit(record):
        folder.write_record(record)
    _say_plan(config, placement, todo)
    if todo:
        failed = _condense_groups(_task(config, folder, dataset, record, placement), placement, record, todo)
        if failed:
            _raise(failed, len(placement.groups))
    store.commit(len(placement.groups), condensed_manifest(config, dataset, record))
    say(
        f"condensed set: {len(dataset.classes)} classes x {config.condense.images_per_class} images in {folder.condensed}"
    )


def _placement(config: RunConfig, classes: int, record: RunRecord | None) -> Placement:
    """Where the run's actors are placed: as the cluster allows now, with the groups of its record if it has one."""
    placement = nodes.placement(config, classes)
    if record is None:
        return placement
    placement = stored_placement(record["resolved"]["placement"], placement, config.resources)
    if not fits(placement, nodes.nodes()) and not nodes.autoscales():
        raise does_not_fit(placement.cpus_per_actor, placement.gpus_per_actor, nodes.nodes())
    wanted = config.resources.classes_per_group
    if wanted and wanted != max(map(len, placement.groups)):
        say(f"resources.classes_per_group={wanted} is ignored: the groups of a run are decided when it begins")
    return placement


def _task(
    config: RunConfig, folder: RunFolder, dataset: PreparedDataset, record: RunRecord, placement: Placement
) -> GroupTask:
    decided = record["resolved"]["execution"]
    return GroupTask(
        config=config,
        folder=folder,
        class_shards=dataset.folder,
        groups=placement.groups,
        identity=identity(record),
        threads=placement.threads,
        metadata=shard_metadata(config, dataset, record),
        execution=Execution.from_dict(decided) if decided else None,
        classes_per_actor=-(-len(dataset.classes) // placement.actors),
        gpu_share=min(1.0, placement.gpus_per_actor),
        actors_per_node=_actors_per_node(placement),
        gpu_memory=smallest_gpu(nodes.measured_nodes(config.resources)) if placement.gpus_per_actor else 0.0,
        run=run_name(folder, record),
    )


def _actors_per_node(placement: Placement) -> int:
    """Most actors that one node may hold at a time."""
    most = max(capacity(placement.cpus_per_actor, placement.gpus_per_actor, [node]) for node in nodes.nodes())
    return max(1, min(most, placement.actors))


def _condense_groups(
    task: GroupTask, placement: Placement, record: RunRecord, todo: Sequence[int]
) -> dict[int, BaseException]:
    """Condenses groups on the cluster. Returns those that failed, with the reason."""

    def possible_actors() -> int:
        return capacity(placement.cpus_per_actor, placement.gpus_per_actor, nodes.nodes())

    grows = task.config.resources.actors is None
    with (
        Display("condense", len(placement.groups) * task.config.condense.iterations) as display,
        CondenseMonitor(display, task, placement, record, todo) as monitor,
    ):
        return drive(task, todo, placement, monitor, capacity=possible_actors if grows else None)


def _say_plan(config: RunConfig, placement: Placement, todo: Sequence[int]) -> None:
    groups = len(placement.groups)
    before = f", {groups - len(todo)} of them finished before" if len(todo) < groups else ""
    each = f"{placement.cpus_per_actor:g} CPUs" + (
        f" and {placement.gpus_per_actor:g} GPUs" if placement.gpus_per_actor else ""
    )
    sizes = max(map(len, placement.groups))
    say(
        f"condense: {groups} groups of up to {sizes} classes{before}, {config.condense.iterations} iterations, on {placement.actors} actors with {each} each"
    )


def _raise(failed: dict[int, BaseException], groups: int) -> NoReturn:
    """Raises one error for all failed groups, in the words of a mistake of the user's if there is one."""
    mistakes = [error for error in failed.values() if isinstance(error, UserError)]
    first = mistakes[0] if mistakes else next(iter(failed.values()))
    summary = f"{len(failed)} of {groups} groups failed; the same command does only what is missing"
    raise (UserError if mistakes else FailedError)(f"{first_line(first)} ({summary})") from first
