"""Checkpoints, finished groups and the commit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3d import CondenseState
from pipeline import storage
from pipeline.condense.group_store import GroupStore
from pipeline.errors import FailedError, UserError
from pipeline.formats.condense_checkpoint import snapshot
from pipeline.formats.condensed_writer import condensed_shard
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import refuse_another
from pipeline.storage import objects

CLASSES = [{"label": 0, "wnid": "", "name": "a"}, {"label": 1, "wnid": "", "name": "b"}]


def state(iteration: int = 7) -> CondenseState:
    generator = torch.Generator().manual_seed(iteration)
    shape = (2, 3, 1, 4, 4)
    return CondenseState(
        pixels_KSCHW=torch.rand(shape, generator=generator),
        momentum_KSCHW=torch.rand(shape, generator=generator),
        iteration=iteration,
        broken_K=torch.tensor([-1, 5]),
    )


def shard_bytes(value: float = 0.5) -> memoryview:
    return condensed_shard(np.full((2, 1, 1, 4, 4), value, np.float32), CLASSES, {"seed": 0})


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    store = GroupStore(RunFolder.at(tmp_path), "id")
    store.save_checkpoint(3, state())
    back = store.load_checkpoint(3)
    assert back is not None
    assert back.iteration == 7
    for name in ("pixels_KSCHW", "momentum_KSCHW", "broken_K"):
        assert torch.equal(getattr(back, name), getattr(state(), name))


def test_checkpoint_of_another_identity_or_group_is_none(tmp_path: Path) -> None:
    GroupStore(RunFolder.at(tmp_path), "id").save_checkpoint(3, state())
    assert GroupStore(RunFolder.at(tmp_path), "other").load_checkpoint(3) is None
    assert GroupStore(RunFolder.at(tmp_path), "id").load_checkpoint(2) is None


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_checkpoint_is_ignored(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    store = GroupStore(RunFolder.at(folder), "id")
    store.save_checkpoint(0, state())
    path = folder / "checkpoints" / "group-00000.safetensors"
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        # Both the header and the tensors: half of the flips fall into the first 400 bytes.
        last = data.draw(st.sampled_from([400, len(content) - 1]))
        content[data.draw(st.integers(0, last))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    back = store.load_checkpoint(0)
    if back is not None:  # the flip was in the padding of the header
        assert back.iteration == 7
        assert torch.equal(back.pixels_KSCHW, state().pixels_KSCHW)
        assert torch.equal(back.momentum_KSCHW, state().momentum_KSCHW)
        assert torch.equal(back.broken_K, state().broken_K)


def test_snapshot_is_a_copy() -> None:
    original = state()
    copied = snapshot(original)
    original.pixels_KSCHW.zero_()
    assert float(copied.pixels_KSCHW.sum()) > 0


def test_a_finished_group_drops_its_checkpoint(tmp_path: Path) -> None:
    store = GroupStore(RunFolder.at(tmp_path), "id")
    store.save_checkpoint(0, state())
    store.finish_group(0, shard_bytes(), 2)
    assert store.finished(0)
    assert not GroupStore(RunFolder.at(tmp_path), "other").finished(0)
    assert store.load_checkpoint(0) is None


def test_commit_writes_shards_then_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, written = GroupStore(RunFolder.at(tmp_path), "id"), []
    for group in range(2):
        store.finish_group(group, shard_bytes(group / 2), 2)
    write_bytes = objects.write_bytes

    def recorded(path: str, data: bytes) -> None:
        written.append(Path(path).name)
        write_bytes(path, data)

    monkeypatch.setattr(storage, "write_bytes", recorded)
    monkeypatch.setattr(objects, "write_bytes", recorded)  # writes the documents
    store.commit(2, {})
    assert written == ["shard-00000.arrow", "shard-00001.arrow", "manifest.json"]


def test_commit_refuses_a_damaged_shard_and_the_group_is_condensed_again(tmp_path: Path) -> None:
    store = GroupStore(RunFolder.at(tmp_path), "id")
    store.finish_group(0, shard_bytes(), 2)
    path = tmp_path / "checkpoints" / "group-00000.shard.arrow"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FailedError, match="the shards of groups 0 are damaged; run the same command again"):
        store.commit(1, {})
    assert not store.folder.is_committed()
    assert not store.finished(0)


def test_a_set_without_one_of_its_shards_is_not_committed(tmp_path: Path) -> None:
    store = GroupStore(RunFolder.at(tmp_path), "id")
    store.finish_group(0, shard_bytes(), 2)
    manifest = {
        "images_per_class": 1,
        "factor": 1,
        "shape": [1, 4, 4],
        "mean": [0.5],
        "std": [0.5],
        "classes": CLASSES,
    }
    store.commit(1, manifest)
    assert store.folder.is_committed()
    assert not store.finished(0)  # its shard has moved into the set: without the set it must be condensed again
    (tmp_path / "condensed" / "shard-00000.arrow").unlink()
    assert not store.folder.is_committed()


def test_read_run(tmp_path: Path) -> None:
    assert RunFolder.at(tmp_path).read_record() is None
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config\.json: is damaged"):
        RunFolder.at(tmp_path).read_record()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        RunFolder.at(tmp_path).read_record()


def test_refuse_another_names_the_keys() -> None:
    refuse_another("out", [])
    with pytest.raises(UserError, match=r"condense\.factor, seed"):
        refuse_another("out", ["condense.factor", "seed"])
