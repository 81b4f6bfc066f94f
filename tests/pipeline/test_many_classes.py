"""What the driver does for all classes grows with their number, not with its square: comparisons are counted, not timed."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from m3d.config import ConfigError
from pipeline.condense.events import Done, LossSample, Lost, Progress
from pipeline.condense.group_queue import GroupQueue
from pipeline.condense.manifest import new_record, shard_metadata
from pipeline.condense.sinks import Tally
from pipeline.config.run_config import Data
from pipeline.data.class_names import Synsets, chosen, described, distinct
from pipeline.data.shard_plan import plan_shards
from pipeline.data.sources import Item, SourceIndex, open_source
from pipeline.data.sources.protocol import SourceListing
from pipeline.errors import UserError, repeated
from pipeline.formats.arrow_schema import LISTED_CLASSES
from pipeline.formats.condensed_reader import read_manifest
from pipeline.formats.condensed_writer import condensed_shard
from pipeline.runtime.placement import NO_BOUND
from pipeline.storage import sha256
from pipeline.storage.documents import write_document
from pipeline.workflow.verify import verify
from tests.pipeline.support.images import write_folder
from tests.pipeline.support.runs import placement_of, small_config

MANY = 2000
PER_NAME = 8
"""Comparisons that a name may cost, whatever the number of names."""


class Counted(str):
    """A name that counts how often it is compared with another one."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    def __lt__(self, other: str) -> bool:
        Counted.compared += 1
        return str.__lt__(self, other)


class Looked(tuple[Any, ...]):
    """A sequence that counts how many of its items are looked at."""

    items = 0

    def __iter__(self) -> Iterator[Any]:
        for item in tuple.__iter__(self):
            Looked.items += 1
            yield item


def names_of(count: int, prefix: str = "class") -> tuple[str, ...]:
    """Names that are compared anew wherever they are looked up: each has its own text."""
    Counted.compared = Looked.items = 0
    return tuple(Counted(f"{prefix} {number}") for number in range(count))


def test_names_that_occur_more_than_once() -> None:
    assert repeated(["b", "a", "c", "a", "b", "a"]) == ["a", "b"]
    assert repeated([]) == []


def test_a_configuration_of_many_classes() -> None:
    Data(classes=names_of(MANY))
    assert Counted.compared < PER_NAME * MANY
    with pytest.raises(ConfigError, match="class 3"):
        Data(classes=(*names_of(5), "class 3"))


def test_classes_are_chosen_and_named() -> None:
    classes = described(names_of(MANY), None, None)
    assert chosen(classes, names_of(MANY)[::-1], None, "here") == tuple(range(MANY))[::-1]
    assert Counted.compared < PER_NAME * MANY
    titles = (*names_of(MANY - 2), "crane", "crane")
    assert distinct(titles, [f"n{i}" for i in range(MANY)])[-2:] == (
        f"crane (n{MANY - 2})",
        f"crane (n{MANY - 1})",
    )
    assert Counted.compared < PER_NAME * MANY


def test_classes_are_chosen_by_wordnet_id_and_by_title() -> None:
    synsets = [(f"n{number:08d}", f"animal {number}, beast {number}") for number in range(MANY)]
    table = Synsets(path="synsets.txt", entries=dict(enumerate(synsets)))
    classes = described(tuple(wnid for wnid, _ in synsets), None, table)
    wanted = [Counted(f"Beast_{number}" if number % 2 else f"animal {number}") for number in range(MANY)]
    Counted.compared = 0
    assert chosen(classes, wanted, None, "here") == tuple(range(MANY))
    assert Counted.compared < PER_NAME * MANY
    with pytest.raises(UserError, match="are names of one class"):
        chosen(classes, ["animal 7", "n00000007"], None, "here")


class ManyClasses:
    """A source of many classes with an image each."""

    def __init__(self, data: Data, listing: SourceListing | None = None) -> None:
        self.names = names_of(MANY)

    def index(self) -> SourceIndex:
        counts: dict[str, tuple[int, ...]] = {"train": (1,) * MANY, "test": (1,) * MANY}
        return SourceIndex(class_names=self.names, counts=counts, fingerprint="many")

    def read(self, split: str, labels: Collection[int], most: int | None = None) -> Iterator[Item]:
        yield Item(label=0, path="a", content=np.zeros((8, 8), np.uint8))


def test_shards_of_many_classes_are_planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pipeline.data.shard_plan.open_source", ManyClasses)
    plan = plan_shards(Data(image_size=8), str(tmp_path))
    assert len(plan.titles) == MANY
    assert Counted.compared < PER_NAME * MANY


def test_a_task_of_some_classes_looks_at_no_others(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images", {"train": 2, "test": 1})
    source = open_source(Data(source="image_folder", path=str(root), image_size=8))
    names = source.index().class_names
    folders = {"train": Looked(source.index().folders["train"])}
    listing = SourceListing(class_names=Looked(names), images=lambda split, label: [], folders=folders)
    Looked.items = 0
    again = open_source(Data(source="image_folder", path=str(root), image_size=8), listing)
    assert [item.label for item in again.read("train", [2, 0])] == [0, 0, 2, 2]
    assert Looked.items == 0


class Groups(Sequence[Sequence[int]]):
    """Groups of one class each that count how often one of them is looked at."""

    looks = 0

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return (index,)


def test_groups_are_taken_without_a_look_at_all() -> None:
    groups = Groups()
    queue = GroupQueue(groups, range(MANY), attempts=3)
    taken = []
    while queue.has_waiting:
        attempt = queue.take(NO_BOUND)
        taken.append(attempt.group)
        queue.finish(attempt)
    assert taken == list(range(MANY))
    assert groups.looks <= 2 * MANY


def progress(iteration: int, *losses: float) -> Progress:
    sample = LossSample(iteration=iteration, losses=Looked(losses), images_per_s=1.0)
    return Progress(iteration=iteration, losses=(sample,) if losses else ())


def test_progress_is_added_up_as_it_comes() -> None:
    tally = Tally(range(MANY), groups=MANY, iterations=10)
    Looked.items = 0
    for group in range(MANY):
        tally(group, progress(0))
        tally(group, progress(5, 2.0, 4.0))
        assert tally.iterations == 10 * group + 5
        tally(group, progress(10, 1.0, 3.0))
        tally(group, Done(iteration=10))
        assert tally.loss() == pytest.approx(2.0)
    assert (tally.finished, tally.iterations) == (MANY, 10 * MANY)
    assert Looked.items <= PER_NAME * MANY


def test_lost_iterations_count_for_the_rate_but_not_for_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr("pipeline.condense.sinks.time", clock)
    tally = Tally([0, 1], groups=3, iterations=100)
    clock.monotonic = lambda: 10.0
    tally(0, progress(40))  # resumes from a checkpoint
    tally(0, progress(70))
    tally(0, Lost(why="gone"))
    assert (tally.iterations, tally.rate()) == (170, 3.0)
    tally(0, progress(60))
    tally(0, progress(80))
    assert (tally.iterations, tally.rate()) == (180, 5.0)


def metadata_of(count: int) -> Any:
    """The metadata of the shards of a run of so many classes."""
    config = small_config()
    classes = [{"label": label, "name": f"class {label}"} for label in range(count)]
    dataset: Any = SimpleNamespace(folder="c", moments=((0.5,), (0.2,)), classes=classes)
    return shard_metadata(config, dataset, new_record(config, dataset, placement_of(config)))


def test_shards_of_many_classes_do_not_list_them() -> None:
    few, many = metadata_of(LISTED_CLASSES), metadata_of(LISTED_CLASSES + 1)
    assert (few["format_version"], len(few["class_order"])) == (1, LISTED_CLASSES)
    assert many["format_version"] == 2
    assert {**many, "class_order": few["class_order"], "format_version": 1} == few


def write_many(folder: Path, shards: int, metadata: dict[str, Any]) -> None:
    """A condensed set with a class per shard."""
    entries, classes = [], [{"label": label, "name": f"class {label}", "wnid": ""} for label in range(shards)]
    common: dict[str, Any] = {"mean": [0.5], "std": [0.2], "factor": 1}
    for label, entry in enumerate(classes):
        shard = condensed_shard(np.full((1, 1, 1, 8, 8), 0.5, np.float32), [entry], {**common, **metadata})
        name = f"shard-{label:05d}.arrow"
        (folder / name).write_bytes(shard)
        entries.append({"file": name, "rows": 1, "sha256": sha256(shard)})
    content = {"format_version": 1, "shards": entries, "classes": classes, "images_per_class": 1, "shape": [1, 8, 8]}
    write_document(str(folder / "manifest.json"), {**content, **common})


def test_shards_with_and_without_the_classes_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(folder: str) -> Any:
        manifest: Any = read_manifest(folder)
        return {**manifest, "classes": Looked(manifest["classes"])}

    shards = LISTED_CLASSES + 1
    write_many(tmp_path, shards, {"format_version": 2})
    monkeypatch.setattr("pipeline.workflow.verify.read_manifest", counted)
    Looked.items = 0
    assert verify(str(tmp_path)) == (f"nothing is wrong ({shards} classes, {shards} shards)", [])
    assert Looked.items <= PER_NAME * shards
    write_many(tmp_path, 3, {"format_version": 1, "class_order": [f"class {label}" for label in range(3)]})
    for path in sorted(tmp_path.glob("shard-*.arrow"))[3:]:
        path.unlink()
    assert verify(str(tmp_path))[1] == []
    for wrong in ({"format_version": 1}, {"format_version": 2, "class_order": ["class 0"]}):
        write_many(tmp_path, 3, wrong)
        assert "class order is not the manifest's" in verify(str(tmp_path))[1][0]
