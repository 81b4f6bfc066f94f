"""What an interrupted evaluation resumes from: scores of incomplete rows, and checkpoints of networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3d import trials
from pipeline import storage
from pipeline.evaluate.results import NetworkScore
from pipeline.evaluate.resume import NetworkCheckpoints, PartialEvaluation
from pipeline.formats.arrow_schema import LISTED_CLASSES
from pipeline.formats.confusion_matrix import Confusion
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import write_compact_document
from tests.m3d.training.easy_problem import QUIET, easy_training, held_out, recipe_of
from tests.pipeline.support.rows import measured_row, network_score
from tests.pipeline.support.runs import small_config

TENSORS = {"weight.a": torch.arange(3.0), "random": torch.arange(5, dtype=torch.uint8)}


def test_scores_are_kept_until_their_row_is_written(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    store = PartialEvaluation(folder)
    store.add("a", {0: network_score([1, 0], [0, 1])})
    store.add("b", {3: network_score([1, 0], [1, 0], best=50.0)})
    again = PartialEvaluation(folder)
    assert again.scores("a") == {0: network_score([1, 0], [0, 1])}
    assert again.scores("b")[3].best == 50.0
    again.remove("a")
    assert PartialEvaluation(folder).scores("a") == {}
    again.remove("b")
    assert list(tmp_path.iterdir()) == []


def test_accuracies_by_epoch_are_kept_and_become_curves_of_the_row(tmp_path: Path) -> None:
    scores = {seed: replace(network_score([3, 1], [0, 4], best=90.0), curve=(50.0 + seed, 80.0)) for seed in (0, 1)}
    PartialEvaluation(RunFolder.at(tmp_path)).add("key", scores)
    assert PartialEvaluation(RunFolder.at(tmp_path)).scores("key") == scores
    row = measured_row(small_config("evaluate.best_epoch=2"), "condensed", scores, classes=2)
    assert row.get("best_epoch_compatibility", {}).get("curves") == [[50.0, 80.0], [51.0, 80.0]]
    without = {**scores, 1: replace(scores[1], curve=())}
    row = measured_row(small_config("evaluate.best_epoch=2"), "condensed", without, classes=2)
    assert "curves" not in row.get("best_epoch_compatibility", {})


def test_scores_of_more_than_ten_seeds_are_read_again(tmp_path: Path) -> None:
    folder, scores = RunFolder.at(tmp_path), {seed: network_score([1, 0], [0, 1]) for seed in range(12)}
    PartialEvaluation(folder).add("a", scores)
    assert PartialEvaluation(folder).scores("a") == scores


def test_scores_that_are_stored_are_not_written_again(tmp_path: Path) -> None:
    store, path = PartialEvaluation(RunFolder.at(tmp_path)), tmp_path / "evaluation-partial.json"
    store.add("a", {0: network_score([1, 0], [0, 1])})
    path.unlink()
    store.add("a", {0: network_score([1, 0], [0, 1])})
    assert not path.exists()


def test_a_damaged_partial_file_costs_its_work_only(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    PartialEvaluation(folder).add("a", {0: network_score([1, 0], [0, 1])})
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace("100.0", "99.0"))
    assert PartialEvaluation(folder).scores("a") == {}


def large_score(seed: int) -> NetworkScore:
    """The score of a network of more classes than a document lists."""
    matrix = np.eye(LISTED_CLASSES + 1, dtype=np.int64)
    matrix[seed, 0] += 1
    return replace(network_score([1, 0], [0, 1]), confusion=Confusion.of(matrix))


def test_the_large_matrix_of_a_network_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, int]] = []
    write = storage.write_bytes

    def counted(path: str, data: bytes | memoryview) -> None:
        written.append((path.rsplit("/", 1)[1], len(data)))
        write(path, data)

    folder = RunFolder.at(tmp_path)
    store = PartialEvaluation(folder)
    monkeypatch.setattr("pipeline.storage.write_bytes", counted)
    for seed in range(4):
        store.add("0a", {seed: large_score(seed)})
    assert [name for name, _ in written] == [f"0a-{seed}.arrow" for seed in range(4)]
    assert (tmp_path / "evaluation-partial.json").stat().st_size < 4 * 500
    store.add("0b", {7: large_score(7)})
    again = PartialEvaluation(folder)
    assert again.scores("0a") == {seed: large_score(seed) for seed in range(4)}
    again.remove("0a")
    assert [path.name for path in (tmp_path / "networks").iterdir()] == ["0b-7.arrow"]
    assert PartialEvaluation(folder).scores("0b") == {7: large_score(7)}
    again.remove("0b")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_a_damaged_matrix_costs_its_network_only(tmp_path: Path, damage: str) -> None:
    folder = RunFolder.at(tmp_path)
    PartialEvaluation(folder).add("0a", {seed: large_score(seed) for seed in (0, 1)})
    path = tmp_path / "networks" / "0a-0.arrow"
    content = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    store = PartialEvaluation(folder)
    assert store.scores("0a") == {1: large_score(1)}
    store.add("0a", {0: large_score(0)})
    assert PartialEvaluation(folder).scores("0a") == {seed: large_score(seed) for seed in (0, 1)}


def test_large_matrices_of_an_older_version_are_read_and_leave_the_document(tmp_path: Path) -> None:
    score = {**vars(large_score(0)), "confusion": large_score(0).confusion.lines()}
    path = str(tmp_path / "evaluation-partial.json")
    write_compact_document(path, {"networks": {"0a": {"0": score}}})
    folder = RunFolder.at(tmp_path)
    store = PartialEvaluation(folder)
    assert store.scores("0a") == {0: large_score(0)}
    store.add("0a", {1: large_score(1)})
    assert len(list((tmp_path / "networks").iterdir())) == 2
    assert "[" not in Path(path).read_text()
    assert PartialEvaluation(folder).scores("0a") == {0: large_score(0), 1: large_score(1)}


def test_a_checkpoint_is_read_back_and_removed(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    checkpoints = NetworkCheckpoints(folder, "key", every_s=0)
    assert checkpoints.load(3) is None
    checkpoints.keep(3, 7, lambda: TENSORS)
    loaded = NetworkCheckpoints(folder, "key").load(3)
    assert loaded is not None
    assert loaded[0] == 7
    assert all(torch.equal(loaded[1][name], value) for name, value in TENSORS.items())
    assert NetworkCheckpoints(folder, "another key").load(3) is None
    checkpoints.finished(3)
    checkpoints.finished(3)
    assert checkpoints.load(3) is None


def test_checkpoints_are_written_seldom(tmp_path: Path) -> None:
    checkpoints = NetworkCheckpoints(RunFolder.at(tmp_path), "key", every_s=1000)
    checkpoints.load(0)
    checkpoints.keep(0, 1, lambda: TENSORS)
    assert checkpoints.load(0) is None


def test_a_damaged_checkpoint_is_ignored(tmp_path: Path) -> None:
    checkpoints = NetworkCheckpoints(RunFolder.at(tmp_path), "key", every_s=0)
    checkpoints.keep(0, 1, lambda: TENSORS)
    (path,) = (tmp_path / "networks").iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert checkpoints.load(0) is None
    path.write_bytes(bytes(data[:40]))
    assert checkpoints.load(0) is None


@pytest.mark.parametrize("every", [0, 2])
def test_trials_resume_from_a_checkpoint(tmp_path: Path, every: int) -> None:
    recipe, folder = recipe_of(replace(QUIET, epochs=6)), RunFolder.at(tmp_path)
    ((_, expected),) = trials(recipe, *easy_training(), held_out(), seeds=(4,), best_epoch=every)
    kept = NetworkCheckpoints(folder, "key", every_s=0)
    kept.finished = lambda seed: None  # as if it had been killed after the last epoch but before it was scored
    list(trials(recipe, *easy_training(), held_out(), seeds=(4,), best_epoch=every, keeper=kept))
    epochs: list[int] = []

    class Spy(NetworkCheckpoints):
        def keep(self, seed: int, epoch: int, tensors: Any) -> None:
            epochs.append(epoch)

    again = Spy(folder, "key")
    ((_, score),) = trials(recipe, *easy_training(), held_out(), seeds=(4,), best_epoch=every, keeper=again)
    assert epochs == []  # all epochs were done
    assert torch.equal(score.confusion, expected.confusion)
    assert score.best_accuracy == expected.best_accuracy
    assert list((tmp_path / "networks").iterdir()) == []
