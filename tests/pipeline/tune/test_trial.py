"""One trial: rungs, resuming after a kill, failures, and that it never sees a test image."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from m3d import ClassImages, Condenser
from pipeline.condense.manifest import identity, new_record
from pipeline.config.parsing import with_settings
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import sealed
from pipeline.tune import trial as trial_module
from pipeline.tune.space import Values
from pipeline.tune.task import TrialTask, chosen_classes, measured_config, trial_rungs
from pipeline.tune.trial import TrialFailedError, run_trial, score_stored
from pipeline.tune.trial_store import Rung, TrialFolder, TrialRecord
from tests.pipeline.support.runs import placement_of, prepared, small_config

CPU = torch.device("cpu")
VALUES: Values = {"kernel.bandwidth_multiplier": 2.0, "condense.learning_rate": 0.5}


def task_of(folder: Path, *settings: str, labels: tuple[int, ...] = (0, 1, 2, 3)) -> TrialTask:
    """Rungs of 2, 6 and 18 iterations, two networks of three epochs each."""
    config = small_config("tune.iterations=18", "tune.seeds=2", "tune.epochs=3", "condense.iterations=40", *settings)
    dataset = prepared(config, folder)
    measured = measured_config(config)
    return TrialTask(
        config=measured,
        out=str(folder / "trials"),
        class_shards=dataset.folder,
        labels=labels,
        rungs=trial_rungs(measured),
        threads=1,
    )


def accuracies(task: TrialTask, values: Values = VALUES) -> list[tuple[float, ...]]:
    """The accuracies of every rung."""
    return [rung.accuracies for rung in run_trial(task, values, CPU)]


def test_a_trial_is_measured_at_its_rungs(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    rungs = list(run_trial(task, VALUES, CPU))
    assert [rung.iteration for rung in rungs] == [2, 6, 18]
    assert all(len(rung.accuracies) == 2 and 0 <= rung.mean <= 100 for rung in rungs)
    record = task.folder(VALUES).read()
    assert record is not None
    assert (record.outcome, record.values, record.rungs) == ("finished", VALUES, tuple(rungs))


def test_no_rung_is_measured_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(tmp_path)
    first = accuracies(task)
    monkeypatch.setattr(trial_module, "score", lambda *_: pytest.fail("a finished trial ran again"))
    assert accuracies(task) == first


def test_a_trial_killed_between_rungs_is_resumed(tmp_path: Path) -> None:
    complete = accuracies(task_of(tmp_path / "a"))
    task = task_of(tmp_path / "b")
    begun = run_trial(task, VALUES, CPU)
    first = next(begun)
    del begun  # the next rung is never asked for
    record = task.folder(VALUES).read()
    assert record is not None
    assert record.outcome == "running"
    assert accuracies(task) == complete
    assert first.accuracies == complete[0]


def test_a_trial_killed_within_a_rung_is_resumed_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = accuracies(task_of(tmp_path / "a"))
    task = task_of(tmp_path / "b", "resources.checkpoint_every_s=1e-9")
    steps = Condenser.step

    def dies(self: Condenser, state: Any, **options: Any) -> Any:
        if state.iteration == 12:
            raise KeyboardInterrupt
        return steps(self, state, **options)

    monkeypatch.setattr(Condenser, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        accuracies(task)
    started: list[int] = []

    def noted(self: Condenser, state: Any, **options: Any) -> Any:
        started.append(state.iteration)
        return steps(self, state, **options)

    monkeypatch.setattr(Condenser, "step", noted)
    assert accuracies(task) == complete
    assert started == list(range(12, 18))


def test_a_trial_never_sees_a_test_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = accuracies(task_of(tmp_path / "a"))
    task = task_of(tmp_path / "b")
    trial_module._test_set.cache_clear()
    trial_module._real.cache_clear()
    removed = list(Path(task.class_shards).glob("test-*.arrow"))
    assert len(removed) == 4
    for path in removed:
        path.unlink()
    real = PreparedDataset.images

    def train_only(self: PreparedDataset, split: Any, label: int) -> torch.Tensor:
        assert split == "train"
        return real(self, split, label)

    monkeypatch.setattr(PreparedDataset, "images", train_only)
    assert accuracies(task) == complete
    # The same trial on the test split would have been noticed.
    on_test = replace(task, config=replace(task.config, evaluate=replace(task.config.evaluate, on="test")))
    with pytest.raises(AssertionError):
        score_stored(on_test, VALUES, task.folder(VALUES), CPU)


def test_validation_images_are_not_condensed(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    assert task.config.data.validation_fraction == 0.2
    assert measured_config(small_config("data.validation_fraction=0.1")).data.validation_fraction == 0.1
    dataset = PreparedDataset(task.class_shards, task.config.data)
    held_out = dataset.test_set("validation").images
    shown = trial_module._real(task.class_shards, task.config.data, task.labels, 0, CPU).pixels_TCHW
    entries = {image.numpy().tobytes() for image in shown}
    assert len(held_out) > 100
    assert not any(image.numpy().tobytes() in entries for image in held_out)


@pytest.mark.parametrize("times", [1, 2])
def test_values_that_break_a_trial_are_recorded(tmp_path: Path, times: int) -> None:
    task, values = task_of(tmp_path), {"condense.learning_rate": 1e38}
    for _ in range(times):
        with pytest.raises(TrialFailedError, match="not finite"):
            accuracies(task, values)
    record = task.folder(values).read()
    assert record is not None
    assert record.outcome == "failed"
    assert "not finite" in record.why


def test_values_that_do_not_go_together_are_recorded(tmp_path: Path) -> None:
    with pytest.raises(TrialFailedError, match=r"kernel\.bandwidth_value"):
        accuracies(task_of(tmp_path), {"kernel.bandwidth": "fixed"})


def test_memory_that_runs_out_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trial_module, "score", full)
    with pytest.raises(TrialFailedError, match="out of memory"):
        accuracies(task_of(tmp_path))


def test_other_errors_do_not_count_as_failures_of_the_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module, "score", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))
    task = task_of(tmp_path)
    with pytest.raises(RuntimeError, match="a bug"):
        accuracies(task)
    record = task.folder(VALUES).read()
    assert record is not None
    assert record.outcome == "running"


def test_a_stopped_trial_stays_stopped(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    next(run_trial(task, VALUES, CPU))
    task.folder(VALUES).settle("stopped")
    assert len(accuracies(task)) == 1


def test_some_classes_move_as_in_a_run_of_all(tmp_path: Path) -> None:
    task = task_of(tmp_path, labels=(1, 3))
    measured = accuracies(task)
    saved, dataset = task.folder(VALUES).load(), PreparedDataset(task.class_shards, task.config.data)
    assert saved is not None
    mean, std = dataset.moments
    condenser = trial_module._condenser(task, trial_module._config(task, VALUES), CPU)
    whole = Condenser(
        ClassImages([dataset.train(label) for label in range(4)], range(4), seed=0),
        condenser.method,
        mean=mean,
        std=std,
        class_count=4,
        execution=condenser.execution,
    )
    state = whole.init()
    for _ in range(18):
        state, _ = whole.step(state)
    torch.testing.assert_close(saved.pixels_KSCHW, state.pixels_KSCHW[[1, 3]], atol=2e-3, rtol=0)
    assert measured[-1][0] > 55  # of two classes, which stand at labels 0 and 1 of the networks


def test_a_trial_has_a_name_of_its_own(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    other = replace(task, rungs=(2, 6))
    assert task.key(VALUES) == task.key(dict(reversed(VALUES.items())))
    assert len({task.key(VALUES), task.key({**VALUES, "kernel.scales": 3}), other.key(VALUES)}) == 3
    assert task.key(VALUES) == replace(task, threads=7, out="/elsewhere").key(VALUES)


def test_classes_are_chosen_from_every_stratum() -> None:
    counts = [10, 500, 11, 490, 12, 480]
    for seed in range(20):
        chosen = chosen_classes(counts, 2, seed)
        assert sorted(counts[label] > 100 for label in chosen) == [False, True]
    assert len({chosen_classes(counts, 2, seed) for seed in range(20)}) > 3
    assert chosen_classes(counts, 2, 5) == chosen_classes(counts, 2, 5)
    assert chosen_classes([7] * 100, None, 0) == tuple(sorted(chosen_classes([7] * 100, 10, 0)))
    assert [label // 10 for label in chosen_classes([7] * 100, 10, 0)] == list(range(10))
    assert chosen_classes([7, 7, 7], None, 0) == (0, 1, 2)


@pytest.mark.parametrize("number", [1, 7])
def test_a_number_of_classes_that_is_not_allowed(number: int) -> None:
    with pytest.raises(UserError, match=r"tune\.classes"):
        chosen_classes([5] * 6, number, 0)


def test_settings_of_a_search_change_no_run(tmp_path: Path) -> None:
    config = small_config()
    dataset, placement = prepared(config, tmp_path), placement_of(config)
    record = new_record(config, dataset, placement)
    other = with_settings(config, ["tune.searcher=random", "tune.seeds=9"])
    assert identity(record) == identity(new_record(other, dataset, placement))
    RunFolder.at("out").require_same_run(record, other)
    del record["config"]["tune"]  # a run from before there were searches
    RunFolder.at("out").require_same_run(record, other)


@pytest.mark.parametrize(
    "change",
    [
        {"rungs": [{"iteration": 3, "accuracies": [], "seconds": 1.0}]},
        {"rungs": [{"iteration": 3, "accuracies": [1e308, 5.0], "seconds": 1.0}]},
        {"rungs": [{"iteration": 0, "accuracies": [5.0], "seconds": 1.0}]},
        {"rungs": [{"iteration": 3, "accuracies": [5.0], "seconds": "x"}]},
        {"key": "another"},
    ],
)
def test_an_impossible_record_of_a_trial_counts_as_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = TrialFolder(str(tmp_path), "key")
    folder.write(
        TrialRecord(key="key", values={}, began=0.0, rungs=(Rung(iteration=3, accuracies=(5.0,), seconds=1.0),))
    )
    assert folder.read() is not None
    place = tmp_path / "key" / "record.json"
    place.write_text(json.dumps(sealed({**json.loads(place.read_text()), **change})))
    assert folder.read() is None
