"""What a run's folder says of its progress: configuration, checkpoints, finished groups, the committed set.

    OUT/config.json                      configuration and everything resolved from it
    OUT/checkpoints/group-00000.safetensors        pixels, momentum and iteration of a group under way
    OUT/checkpoints/group-00000.shard.arrow, .json a finished group, the JSON (rows, checksum) written last
    OUT/condensed/shard-00000.arrow, manifest.json the committed set, the manifest written last

Every file is whole or absent, and repeating a write is harmless, so a late write of an actor that counts
as dead does no damage.
"""

import json
from collections.abc import Mapping
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save

from m3d import CondenseState
from pipeline import storage
from pipeline.documents import GroupRecord, RunRecord, parsed, sealed
from pipeline.errors import FailedError, UserError, listed
from pipeline.shard_reader import parse_shard, read_manifest
from pipeline.shard_schema import FORMAT_VERSION, MANIFEST


class Ledger:
    """The folder of one run; ``identity`` is the checksum of all that its bytes depend on."""

    def __init__(self, out: str, identity: str) -> None:
        self.out, self.identity = out, identity

    def save_checkpoint(self, group: int, state: CondenseState) -> None:
        """Writes a group's state; the tensors must be on the CPU and no longer change."""
        tensors = {"pixels": state.pixels_KSCHW, "momentum": state.momentum_KSCHW, "broken": state.broken_K}
        iteration = str(state.iteration)
        metadata = {"iteration": iteration, "identity": self.identity, "sha256": _checksum(tensors, iteration)}
        storage.write_bytes(self._path(group, "safetensors"), save(tensors, metadata))

    def load_checkpoint(self, group: int) -> CondenseState | None:
        """The group's state, or None where there is none of this configuration or it is damaged."""
        try:
            data = storage.read_bytes(self._path(group, "safetensors"))
        except FileNotFoundError:
            return None
        try:
            size = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + size])["__metadata__"]
            tensors = load(data)
            if metadata["identity"] != self.identity or metadata["sha256"] != _checksum(tensors, metadata["iteration"]):
                return None
            return CondenseState(
                pixels_KSCHW=tensors["pixels"],
                momentum_KSCHW=tensors["momentum"],
                iteration=int(metadata["iteration"]),
                broken_K=tensors["broken"],
            )
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError, UnicodeDecodeError):
            return None  # a damaged checkpoint costs its work, never the run

    def finish_group(self, group: int, shard: memoryview, rows: int) -> dict[str, Any]:
        """Stores a group's shard, then its record; the checkpoint is no longer needed and goes."""
        record = {"rows": rows, "sha256": storage.sha256(shard), "identity": self.identity}
        storage.write_bytes(self._path(group, "shard.arrow"), shard)
        storage.write_json(self._path(group, "json"), sealed(record))
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
            storage.write_bytes(storage.join(self.out, "condensed", name), data)
            entries.append({"file": name, "rows": record["rows"], "sha256": record["sha256"]})
        if damaged:
            raise FailedError(
                f"{self.out}: the shards of groups {listed(damaged)} are not what was written; run the same command again to make them anew"
            )
        whole = {"format_version": FORMAT_VERSION, "shards": entries, **manifest}
        storage.write_json(storage.join(self.out, "condensed", MANIFEST), sealed(whole))
        for group in range(groups):
            storage.remove(self._path(group, "shard.arrow"))

    def committed(self) -> bool:
        """Whether the condensed set is finished and no shard of it has gone. Raises UserError for a damaged manifest."""
        folder = storage.join(self.out, "condensed")
        if not storage.exists(storage.join(folder, MANIFEST)):
            return False
        return all(storage.exists(storage.join(folder, entry["file"])) for entry in read_manifest(folder)["shards"])

    def sweep(self) -> None:
        """Removes what killed writers left."""
        for folder in (self.out, storage.join(self.out, "checkpoints"), storage.join(self.out, "condensed")):
            storage.sweep(folder)

    def _record(self, group: int) -> GroupRecord | None:
        path = self._path(group, "json")
        try:
            return parsed(GroupRecord, storage.read_json(path), path)
        except (FileNotFoundError, UserError):
            return None  # the group is made again

    def _path(self, group: int, suffix: str) -> str:
        return storage.join(self.out, "checkpoints", f"group-{group:05d}.{suffix}")


def _checksum(tensors: Mapping[str, torch.Tensor], iteration: str) -> str:
    content = [tensors[name].contiguous().numpy().tobytes() for name in sorted(tensors)]
    return storage.sha256(b"".join([iteration.encode(), *content]))


def snapshot(state: CondenseState) -> CondenseState:
    """A copy on the CPU, to be written while the original moves on."""
    return CondenseState(
        pixels_KSCHW=state.pixels_KSCHW.detach().to("cpu", copy=True).contiguous(),
        momentum_KSCHW=state.momentum_KSCHW.detach().to("cpu", copy=True).contiguous(),
        iteration=state.iteration,
        broken_K=state.broken_K.to("cpu", copy=True),
    )


def placed(state: CondenseState, device: torch.device) -> CondenseState:
    """The state on a device."""
    return CondenseState(
        pixels_KSCHW=state.pixels_KSCHW.to(device),
        momentum_KSCHW=state.momentum_KSCHW.to(device),
        iteration=state.iteration,
        broken_K=state.broken_K.to(device),
    )


def read_run(out: str) -> RunRecord | None:
    """OUT/config.json, or None where there is none."""
    path = storage.join(out, "config.json")
    try:
        run = storage.read_json(path)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise UserError(f"{out}: is a file, or lies below one; give a folder") from None
    return parsed(RunRecord, run, path)


def refuse_another(out: str, differing: list[str]) -> None:
    """Raises UserError naming the keys in which the folder's run is another one."""
    if differing:
        raise UserError(
            f"{out}: holds a run of another configuration, differing in {listed(differing)}; "
            "choose another --out, or give the same settings to go on with it"
        )
