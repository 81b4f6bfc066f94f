"""The evaluate stage, and the row of the full training set that it leaves to pretrain."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from pipeline.cli.parser import build_parser
from pipeline.condense.group_store import GroupStore
from pipeline.condense.manifest import condensed_manifest, new_record
from pipeline.condense.worker import GroupWorker
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.results import confusion_of, is_evaluated, read_rows, write_rows
from pipeline.evaluate.rows import Origins
from pipeline.evaluate.scoring import score_blocks
from pipeline.evaluate.stage import evaluate
from pipeline.formats import confusion_matrix
from pipeline.formats.condensed_reader import read_manifest
from pipeline.formats.provenance import commit
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime.tasks import results
from tests.pipeline.support.rows import stored_row
from tests.pipeline.support.runs import EXECUTION, placement_of, prepared, small_config, task_of


def condensed_run(config: RunConfig, out: Path) -> PreparedDataset:
    """A finished condensed set, made without Ray."""
    cache = prepared(config, out)
    worker = GroupWorker(task_of(config, out, cache), torch.device("cpu"))
    for group in range(2):
        list(worker.condense(group, EXECUTION))
    record = new_record(config, cache, placement_of(config))
    GroupStore(RunFolder.at(out), worker.task.identity).commit(2, condensed_manifest(config, cache, record))
    return cache


@pytest.mark.usefixtures("ray_cluster")
def test_evaluate_writes_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_config()
    dataset, folder = condensed_run(config, tmp_path), RunFolder.at(tmp_path)
    rows = evaluate(config, folder, dataset)
    assert [row["set"] for row in rows] == ["condensed", "random", "mosaic"]
    for row in rows:
        assert row["seeds"] == [0, 1]
        assert row["mean"] == pytest.approx(sum(row["accuracies"]) / 2)
        assert row["std"] == pytest.approx(abs(row["accuracies"][0] - row["accuracies"][1]) / 2**0.5)
        assert (row["architecture"], row["protocol"], row["epochs"], row["epoch"]) == ("convnet1", "idc", 5, "last")
        assert all(0 <= accuracy <= 100 for accuracy in row["accuracies"])
    assert read_rows(folder) == rows
    seal = read_manifest(str(tmp_path / "condensed"))["checksum"]
    assert is_evaluated(config, folder, {"condensed_set": seal}, 4)
    assert not is_evaluated(config, folder, {"condensed_set": "of another set"}, 4)
    for other in ("evaluate.seeds=3", "evaluate.epochs=6", "evaluate.flip=true", "evaluate.architectures=convnet2"):
        assert not is_evaluated(small_config(other), folder, {"condensed_set": seal}, 4)
    assert "condensed" in capsys.readouterr().out
    (tmp_path / "evaluation.json").write_text(json.dumps({"results": rows[1:]}))
    again = evaluate(config, folder, dataset)
    assert "2 of 3 rows were evaluated before" in capsys.readouterr().out
    assert again == rows  # the same seeds, the same accuracies


def test_compiled_networks_are_recorded_as_compiled(tmp_path: Path, ray_cluster: None) -> None:
    config = small_config("evaluate.compile=on", "evaluate.seeds=1", "evaluate.epochs=2")
    dataset, folder = condensed_run(config, tmp_path), RunFolder.at(tmp_path)
    rows = evaluate(config, folder, dataset)
    assert {row["compiled"] for row in rows} == {True}


@pytest.mark.usefixtures("ray_cluster")
def test_every_set_and_architecture_with_matrices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("condensed", "random", "mosaic", "herding", "k_center", "class_mean")
    config = small_config(
        f"evaluate.sets={','.join(names)}", "evaluate.architectures=convnet1,mlp", "evaluate.epochs=2"
    )
    dataset, folder = condensed_run(config, tmp_path), RunFolder.at(tmp_path)
    rows: list[Any] = [*evaluate(config, folder, dataset)]
    assert [(row["architecture"], row["set"]) for row in rows] == [(a, s) for a in ("convnet1", "mlp") for s in names]
    counts = dataset.test_set().labels.bincount().tolist()
    for row in rows:
        assert [sum(line) for line in row["confusion"]] == [2 * count for count in counts]  # summed over two seeds
        right = sum(line[label] for label, line in enumerate(row["confusion"]))
        assert row["mean"] == pytest.approx(100 * right / (2 * sum(counts)))
        assert row["training"]["epochs"] == 2
        assert row["images"] == 4 * (4 if row["set"] in ("condensed", "mosaic") else 1)
        assert row["interval95"][0] <= row["mean"] <= row["interval95"][1]
    ranked = json.loads((tmp_path / "evaluation.json").read_text())["scores"]
    assert [(score["architecture"], score["hlr"]) for score in ranked] == [("convnet1", None), ("mlp", None)]
    assert ranked[0]["ior"] == pytest.approx((rows[0]["mean"] - rows[1]["mean"]) / 100)
    assert not (tmp_path / "evaluation-partial.json").exists()

    # MLPs that are trained one after another have the accuracies of those that were trained together.
    alone = small_config(
        "evaluate.sets=condensed,random", "evaluate.architectures=mlp", "evaluate.epochs=2", "evaluate.together=1"
    )
    together = {row["set"]: row["accuracies"] for row in rows if row["architecture"] == "mlp"}
    (tmp_path / "evaluation.json").unlink()
    for row in evaluate(alone, folder, dataset):
        assert row["accuracies"] == pytest.approx(together[row["set"]], abs=2)


def test_the_whole_set_is_left_to_pretrain(tmp_path: Path) -> None:
    config = small_config("evaluate.sets=whole")
    dataset, folder = condensed_run(config, tmp_path), RunFolder.at(tmp_path)
    folder.write_record(new_record(config, dataset, placement_of(config)))
    with pytest.raises(UserError, match="python -m pipeline pretrain") as error:
        evaluate(config, folder, dataset)
    command = str(error.value).split("`")[1].split()
    arguments = build_parser().parse_args(command[3:])
    assert (arguments.config, arguments.out) == (str(tmp_path / "config.json"), str(tmp_path))
    row = stored_row("whole", 90.0, architecture="convnet1", protocol="pretrain", std=0.0, accuracies=[90.0], seeds=[0])
    write_rows(folder, [row])
    (whole,) = evaluate(config, folder, dataset)
    assert whole["mean"] == 90.0


@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_evaluation_is_resumed_with_the_networks_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config("evaluate.sets=condensed", "evaluate.seeds=3", "evaluate.epochs=2")
    dataset, folder = condensed_run(config, tmp_path), RunFolder.at(tmp_path)
    real, trained = score_blocks, []

    def interrupted(*arguments: Any) -> Any:
        for block, scores in real(*arguments):
            trained.extend(block.seeds)
            yield block, scores
            if len(trained) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(f"{score_blocks.__module__}.score_blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, folder, dataset)
    assert (tmp_path / "evaluation-partial.json").exists()
    monkeypatch.setattr(f"{score_blocks.__module__}.commit", lambda: "of another day")
    (row,) = evaluate(config, folder, dataset)
    assert (row.get("commit") or "").split(", ") == sorted({"of another day", commit() or "of another day"})
    assert sorted(trained) == [0, 1, 2]  # none of them twice
    assert "evaluate: resumes with 1 of 3 networks scored before" in capsys.readouterr().out
    assert not (tmp_path / "evaluation-partial.json").exists()
    (tmp_path / "evaluation.json").unlink()
    trained.append(0)
    (again,) = evaluate(config, folder, dataset)
    assert again == {**row, "commit": "of another day"}


@pytest.mark.usefixtures("ray_cluster")
def test_large_matrices_of_an_interrupted_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion_matrix, "LISTED_CLASSES", 3)
    config = small_config("evaluate.sets=condensed,random", "evaluate.epochs=2", "evaluate.together=1")
    dataset, folder = condensed_run(config, tmp_path), RunFolder.at(tmp_path)
    real, trained = score_blocks, []

    def interrupted(*arguments: Any) -> Any:
        for block, scores in real(*arguments):
            trained.append((block.row.request.key.set, *block.seeds))
            yield block, scores
            if len(trained) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(f"{score_blocks.__module__}.score_blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, folder, dataset)
    assert len(list((tmp_path / "networks").glob("*.arrow"))) == 1
    rows = evaluate(config, folder, dataset)
    assert sorted(trained) == [(name, seed) for name in ("condensed", "random") for seed in (0, 1)]
    assert list((tmp_path / "networks").iterdir()) == []
    assert len(list((tmp_path / "evaluation").iterdir())) == 2
    counts = dataset.test_set().labels.bincount().tolist()
    for row in rows:
        matrix = confusion_of(row, folder)
        assert matrix is not None
        assert [sum(line) for line in matrix.lines()] == [2 * count for count in counts]
        assert row.get("per_class") == matrix.per_class()


@pytest.mark.usefixtures("ray_cluster")
def test_the_best_epoch_is_reported_beside_the_last(tmp_path: Path) -> None:
    config = small_config("evaluate.sets=condensed")
    dataset, folder = condensed_run(config, tmp_path), RunFolder.at(tmp_path)
    (plain,) = evaluate(config, folder, dataset)
    (row,) = evaluate(small_config("evaluate.sets=condensed", "evaluate.best_epoch=2"), folder, dataset)
    assert "best_epoch_compatibility" not in plain
    assert row["accuracies"] == plain["accuracies"]
    best = row.get("best_epoch_compatibility")
    assert best is not None
    assert best["every"] == 2
    assert all(highest >= last for highest, last in zip(best["accuracies"], row["accuracies"], strict=True))


@pytest.mark.usefixtures("ray_cluster")
def test_a_row_answers_for_its_own_class_shards(tmp_path: Path) -> None:
    config = small_config("evaluate.sets=condensed", "evaluate.seeds=1", "evaluate.epochs=1")
    dataset, folder = condensed_run(config, tmp_path), RunFolder.at(tmp_path)
    (row,) = evaluate(config, folder, dataset)
    assert row.get("class_shards") == dataset.seal
    origins: Origins = {"condensed_set": row.get("condensed_set", ""), "class_shards": dataset.seal}
    assert is_evaluated(config, folder, origins, 4)
    assert not is_evaluated(config, folder, {**origins, "class_shards": "others"}, 4)


@pytest.mark.usefixtures("ray_cluster")
def test_an_empty_validation_split_is_refused(tmp_path: Path) -> None:
    config = small_config("data.validation_fraction=0.0001", "evaluate.on=validation")
    dataset, folder = condensed_run(config, tmp_path), RunFolder.at(tmp_path)
    with pytest.raises(UserError, match=r"data.validation_fraction=0.0001 holds out no image"):
        evaluate(config, folder, dataset)


@pytest.mark.usefixtures("ray_cluster")
def test_results_that_end_beside_a_failure_are_not_lost() -> None:
    @ray.remote(num_cpus=0)
    def work(number: int) -> int:
        if number == 0:
            raise UserError("a mistake")
        time.sleep(1)
        return number

    got = []
    with pytest.raises(UserError, match="a mistake"):  # noqa: PT012 (what is yielded before counts)
        for _, value in results([partial(work.remote, number) for number in range(4)], 3, "work"):
            got.append(value)
    assert sorted(got) == [1, 2]  # those that ran; the fourth was never begun
