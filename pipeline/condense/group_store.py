"""The groups in a run's folder: their checkpoints, their finished shards, and the committed set.

    OUT/checkpoints/group-00000.safetensors        pixels, momentum and iteration of an unfinished group
    OUT/checkpoints/group-00000.shard.arrow, .json a finished group, the JSON (rows, checksum) written last
    OUT/snapshots/group-00000-000000117.safetensors its images at an iteration, for the report
    OUT/condensed/shard-00000.arrow, manifest.json the committed set, the manifest written last

Every file is complete or absent, and repeating a write is harmless. So a late write of an actor that counts as dead
does no damage.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from m3d import CondenseState
from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.errors import FailedError, UserError, listed
from pipeline.formats.arrow_schema import FORMAT_VERSION, MANIFEST
from pipeline.formats.condense_checkpoint import read_checkpoint, snapshot, write_checkpoint
from pipeline.formats.condensed_reader import ShardEntry, parse_shard
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.snapshots import reduced, snapshot_iterations, write_snapshot
from pipeline.storage.documents import Document, read_document, write_document
from pipeline.storage.fields import Sha256


class GroupRecord(Document):
    """checkpoints/group-00000.json."""

    rows: int
    sha256: Sha256
    identity: str


class GroupStore:
    """Reads and writes the groups of one run."""

    def __init__(self, folder: RunFolder, identity: str) -> None:
        """Args: the folder of the run, and the checksum of everything that its bytes depend on."""
        self.folder, self.identity = folder, identity

    def save_checkpoint(self, group: int, state: CondenseState) -> None:
        """Writes a group's state. Its tensors must be on the CPU and must not change any more."""
        write_checkpoint(self._path(group, "safetensors"), state, self.identity)

    def load_checkpoint(self, group: int) -> CondenseState | None:
        """Returns the group's state, or None if it is missing, damaged or of another configuration."""
        return read_checkpoint(self._path(group, "safetensors"), self.identity)

    def save_snapshot(self, group: int, iteration: int, images_KSCHW: Tensor) -> None:
        """Writes a group's images at an iteration, as ``reduced`` returns them."""
        write_snapshot(self.folder.snapshots, group, iteration, images_KSCHW, self.identity)

    def finish_group(self, group: int, shard: memoryview, rows: int) -> None:
        """Stores a group's shard, then its record, and removes the checkpoint."""
        record = GroupRecord(rows=rows, sha256=storage.sha256(shard), identity=self.identity)
        storage.write_bytes(self._path(group, "shard.arrow"), shard)
        write_document(self._path(group, "json"), record)
        storage.remove(self._path(group, "safetensors"))

    def finished(self, group: int) -> bool:
        """Whether the group's shard and record exist and belong to this configuration."""
        record = self._record(group)
        if record is None or record["identity"] != self.identity:
            return False
        return storage.exists(self._path(group, "shard.arrow"))

    def commit(self, groups: int, content: Mapping[str, object]) -> None:
        """Checks the shards of all groups, copies them into the condensed set, and writes the manifest.

        Args:
            groups: number of groups.
            content: content of the manifest besides its format and its shards.

        Raises:
            FailedError: shards do not match their records. The next call condenses those groups again.
        """
        entries: list[ShardEntry] = []
        damaged: list[str] = []
        for group in range(groups):
            path, record = self._path(group, "shard.arrow"), self._record(group)
            data = storage.read_bytes(path) if storage.exists(path) else b""
            if (
                record is None
                or storage.sha256(data) != record["sha256"]
                or parse_shard(data, path).num_rows != record["rows"]
            ):
                storage.remove(self._path(group, "json"))
                damaged.append(str(group))
                continue
            name = f"shard-{group:05d}.arrow"
            storage.write_bytes(storage.join(self.folder.condensed, name), data)
            entries.append(ShardEntry(file=name, rows=record["rows"], sha256=record["sha256"]))
        if damaged:
            raise FailedError(
                f"{self.folder}: the shards of groups {listed(damaged)} are damaged; run the same command again to condense these groups again"
            )
        manifest = {"format_version": FORMAT_VERSION, "shards": entries, **content}
        write_document(storage.join(self.folder.condensed, MANIFEST), manifest)
        remove_committed_groups(self.folder)

    def sweep(self) -> None:
        """Removes unfinished files that killed writers left."""
        for folder in (self.folder.path, self.folder.checkpoints, self.folder.snapshots, self.folder.condensed):
            storage.sweep(folder)

    def _record(self, group: int) -> GroupRecord | None:
        path = self._path(group, "json")
        try:
            return read_document(GroupRecord, path)
        except (FileNotFoundError, UserError):
            return None  # the group is condensed again

    def _path(self, group: int, suffix: str) -> str:
        return storage.join(self.folder.checkpoints, f"group-{group:05d}.{suffix}")


def remove_committed_groups(folder: RunFolder) -> None:
    """Removes the shards of groups beside their records. The condensed set must be committed: it has copies of them."""
    for name in storage.files_below(folder.checkpoints, ".shard.arrow"):
        storage.remove(storage.join(folder.checkpoints, name))


class Checkpoints:
    """Saves a group's state at intervals: copied at once, written in the background, one write at a time.

    Snapshots for the report are written in the same order. So whoever resumes from a checkpoint finds those before it.
    """

    def __init__(self, store: GroupStore, group: int, config: RunConfig, iteration: int) -> None:
        """Args: where to save, which group, how often, and the iteration that the group starts from."""
        self.store, self.group, self.settings = store, group, config.resources
        self.saved_at, self.saved_s = iteration, time.monotonic()
        count = config.report.snapshots
        self._shown = frozenset(snapshot_iterations(config.condense.iterations, count) if count else ())
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def after(self, state: CondenseState) -> None:
        """Saves the state if a checkpoint is due, before it the images if a snapshot is. Call it after every iteration."""
        self.show(state)
        every = self.settings.checkpoint_every
        if every is None:
            due = time.monotonic() - self.saved_s >= self.settings.checkpoint_every_s
        else:
            due = state.iteration - self.saved_at >= every
        # An interval in iterations is a promise, so a slow write is waited for. One in seconds is skipped meanwhile.
        if due and (every is not None or self._writing is None or self._writing.done()):
            self.save(state)

    def save(self, state: CondenseState) -> None:
        """Starts to write a copy of the state. Raises the error of the write before."""
        self.settle()
        self._writing = self._pool.submit(self.store.save_checkpoint, self.group, snapshot(state))
        self.saved_at, self.saved_s = state.iteration, time.monotonic()

    def show(self, state: CondenseState) -> None:
        """Starts to write a snapshot of the images if one is due at this iteration. Raises the error of the write before."""
        if state.iteration in self._shown:
            self.settle()
            images = reduced(state.pixels_KSCHW)
            self._writing = self._pool.submit(self.store.save_snapshot, self.group, state.iteration, images)

    def settle(self) -> None:
        """Waits for the current write and raises its error."""
        if self._writing is not None:
            self._writing.result()
