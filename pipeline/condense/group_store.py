"""What a run's folder says of its progress: configuration, checkpoints, finished groups, the committed set.

    OUT/config.json                      configuration and everything resolved from it
    OUT/checkpoints/group-00000.safetensors        pixels, momentum and iteration of a group under way
    OUT/checkpoints/group-00000.shard.arrow, .json a finished group, the JSON (rows, checksum) written last
    OUT/condensed/shard-00000.arrow, manifest.json the committed set, the manifest written last

Every file is whole or absent, and repeating a write is harmless, so a late write of an actor that counts
as dead does no damage.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from m3d import CondenseState
from pipeline import storage
from pipeline.config.run_config import Resources
from pipeline.errors import FailedError, UserError, listed
from pipeline.formats.arrow_schema import FORMAT_VERSION, MANIFEST
from pipeline.formats.condense_checkpoint import read_checkpoint, snapshot, write_checkpoint
from pipeline.formats.condensed_reader import parse_shard
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import Document, read_document, write_document


class GroupRecord(Document):
    """checkpoints/group-00000.json."""

    rows: int
    sha256: str
    identity: str


class GroupStore:
    """The folder of one run; ``identity`` is the checksum of all that its bytes depend on."""

    def __init__(self, folder: RunFolder, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def save_checkpoint(self, group: int, state: CondenseState) -> None:
        """Writes a group's state; the tensors must be on the CPU and no longer change."""
        write_checkpoint(self._path(group, "safetensors"), state, self.identity)

    def load_checkpoint(self, group: int) -> CondenseState | None:
        """The group's state, or None where there is none of this configuration or it is damaged."""
        return read_checkpoint(self._path(group, "safetensors"), self.identity)

    def finish_group(self, group: int, shard: memoryview, rows: int) -> dict[str, Any]:
        """Stores a group's shard, then its record; the checkpoint is no longer needed and goes."""
        record = {"rows": rows, "sha256": storage.sha256(shard), "identity": self.identity}
        storage.write_bytes(self._path(group, "shard.arrow"), shard)
        write_document(self._path(group, "json"), record)
        storage.remove(self._path(group, "safetensors"))
        return record

    def finished(self, group: int) -> bool:
        """Whether the group's shard is there with its record, of this configuration."""
        record = self._record(group)
        if record is None or record["identity"] != self.identity:
            return False
        return storage.exists(self._path(group, "shard.arrow"))

    def commit(self, groups: int, manifest: Mapping[str, Any]) -> None:
        """Copies the shards of all groups to their place, checks each, and writes the manifest.

        Raises:
            FailedError: shards that are not what their records say; those groups are made anew by the next call.
        """
        entries, damaged = [], []
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
            entries.append({"file": name, "rows": record["rows"], "sha256": record["sha256"]})
        if damaged:
            raise FailedError(
                f"{self.folder}: the shards of groups {listed(damaged)} are not what was written; run the same command again to make them anew"
            )
        whole = {"format_version": FORMAT_VERSION, "shards": entries, **manifest}
        write_document(storage.join(self.folder.condensed, MANIFEST), whole)
        for group in range(groups):
            storage.remove(self._path(group, "shard.arrow"))

    def sweep(self) -> None:
        """Removes what killed writers left."""
        for folder in (self.folder.path, self.folder.checkpoints, self.folder.condensed):
            storage.sweep(folder)

    def _record(self, group: int) -> GroupRecord | None:
        path = self._path(group, "json")
        try:
            return read_document(GroupRecord, path)
        except (FileNotFoundError, UserError):
            return None  # the group is made again

    def _path(self, group: int, suffix: str) -> str:
        return storage.join(self.folder.checkpoints, f"group-{group:05d}.{suffix}")


class Checkpoints:
    """Saves a group's state every so often: copied at once, written in the background, one write at a time."""

    def __init__(self, ledger: GroupStore, group: int, settings: Resources, iteration: int) -> None:
        self.ledger, self.group, self.settings = ledger, group, settings
        self.saved_at, self.saved_s = iteration, time.monotonic()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def after(self, state: CondenseState) -> None:
        """Called after every iteration; saves when it is time and the last write is through."""
        every = self.settings.checkpoint_every
        if every is None:
            due = time.monotonic() - self.saved_s >= self.settings.checkpoint_every_s
        else:
            due = state.iteration - self.saved_at >= every
        # With a number of iterations the interval is a promise: a slow write is waited for.
        if due and (every is not None or self._writing is None or self._writing.done()):
            self.save(state)

    def save(self, state: CondenseState) -> None:
        """Starts to write a copy of the state. Raises what went wrong in the write before."""
        self.settle()
        self._writing = self._pool.submit(self.ledger.save_checkpoint, self.group, snapshot(state))
        self.saved_at, self.saved_s = state.iteration, time.monotonic()

    def settle(self) -> None:
        """Waits for the write under way and raises what went wrong in it."""
        if self._writing is not None:
            self._writing.result()
