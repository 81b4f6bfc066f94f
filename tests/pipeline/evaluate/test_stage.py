"""The sets that are compared, and evaluation.json."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from m3d import decode, moments, standardise
from pipeline import storage
from pipeline.cli.parser import _parser
from pipeline.condense.group_store import GroupStore
from pipeline.condense.manifest import condensed_manifest, new_record
from pipeline.condense.worker import GroupWorker
from pipeline.config.parsing import with_settings
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.results import held_row, is_evaluated, read_rows, set_names, write_rows
from pipeline.evaluate.scoring import score_all
from pipeline.evaluate.stage import evaluate
from pipeline.evaluate.training_sets import set_of_run, training_set
from pipeline.formats.condensed_reader import read_manifest
from pipeline.formats.provenance import commit
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime.tasks import results
from pipeline.storage.documents import sealed
from tests.pipeline.support.runs import EXECUTION, condensed_images, placement_of, prepared, small_config, task_of


def condensed_run(config: RunConfig, out: Path) -> PreparedDataset:
    """A finished condensed set, made without Ray."""
    cache = prepared(config, out)
    worker = GroupWorker(task_of(config, out, cache), torch.device("cpu"))
    for group in range(2):
        list(worker.condense(group, EXECUTION))
    record = new_record(config, cache, placement_of(config))
    GroupStore(RunFolder.at(out), worker.task.identity).commit(2, condensed_manifest(config, cache, record))
    return cache


def test_condensed_is_the_committed_set_decoded_and_normalised(tmp_path: Path) -> None:
    config = small_config()
    cache = condensed_run(config, tmp_path)
    images, labels = training_set("condensed", config, str(tmp_path), cache, seed=0)
    stored = condensed_images(tmp_path)
    mean, std = cache.moments
    expected = standardise(decode(stored[:, None], 2).flatten(0, 1), mean, std)
    torch.testing.assert_close(images, expected)
    assert labels.tolist() == [label for label in range(4) for _ in range(4)]


def test_a_condensed_set_keeps_its_own_moments(tmp_path: Path) -> None:
    config = small_config()
    cache = condensed_run(config, tmp_path / "a")
    path = tmp_path / "a" / "condensed" / "manifest.json"
    other = {**json.loads(path.read_text()), "mean": [0.5], "std": [0.25]}
    storage.write_json(str(path), sealed({key: value for key, value in other.items() if key != "checksum"}))
    held = set_of_run("condensed", config, str(tmp_path / "a"), cache.folder, 0)
    assert (held.mean, held.std) == ((0.5,), (0.25,))
    expected = (condensed_images(tmp_path / "a").mean() - 0.5) / 0.25
    assert float(held.images.mean()) == pytest.approx(float(expected), abs=0.01)
    random = set_of_run("random", config, str(tmp_path / "a"), cache.folder, 0)
    assert (random.mean, random.std) == cache.moments


def test_random_is_whole_real_training_images_drawn_anew_for_each_seed(tmp_path: Path) -> None:
    config = small_config("condense.images_per_class=3")
    cache = prepared(config, tmp_path)
    first, labels = training_set("random", config, "", cache, seed=0)
    again, _ = training_set("random", config, "", cache, seed=0)
    other, _ = training_set("random", config, "", cache, seed=1)
    assert labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    mean, std = cache.moments
    pool = standardise(cache.train(1).float() / 255, mean, std)
    assert all(any(torch.equal(image, real) for real in pool) for image in first[3:6])


def test_mosaic_is_where_the_condensation_starts(tmp_path: Path) -> None:
    config = small_config(iterations=1, learning_rate=1e-12)
    cache = condensed_run(config, tmp_path)
    start, _ = training_set("mosaic", config, str(tmp_path), cache, seed=0)
    condensed, _ = training_set("condensed", config, str(tmp_path), cache, seed=0)
    torch.testing.assert_close(start, condensed, rtol=1e-4, atol=1e-4)


def test_set_names() -> None:
    assert set_names(small_config()) == ["condensed", "random", "mosaic"]
    assert set_names(small_config("condense.factor=1")) == ["condensed", "random", "mosaic"]
    assert set_names(small_config("condense.factor=1", "condense.start=noise")) == ["condensed", "random"]
    assert set_names(small_config("evaluate.sets=herding,whole,herding")) == ["herding", "whole"]


def test_moments_of_the_cache_are_those_of_all_training_pixels(tmp_path: Path) -> None:
    cache = prepared(small_config(), tmp_path)
    mean, std = moments(torch.cat([cache.train(label) for label in range(4)]))
    assert cache.moments[0] == pytest.approx(mean)
    assert cache.moments[1] == pytest.approx(std)


@pytest.mark.usefixtures("ray_cluster")
def test_evaluate_writes_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_config()
    cache = condensed_run(config, tmp_path)
    rows = evaluate(config, RunFolder.at(tmp_path), cache)
    assert [row["set"] for row in rows] == ["condensed", "random", "mosaic"]
    for row in rows:
        assert row["seeds"] == [0, 1]
        assert row["mean"] == pytest.approx(sum(row["accuracies"]) / 2)
        assert row["std"] == pytest.approx(abs(row["accuracies"][0] - row["accuracies"][1]) / 2**0.5)
        assert (row["architecture"], row["protocol"], row["epochs"], row["epoch"]) == ("convnet1", "idc", 5, "last")
        assert all(0 <= accuracy <= 100 for accuracy in row["accuracies"])
    assert read_rows(str(tmp_path)) == rows
    seal = read_manifest(str(tmp_path / "condensed"))["checksum"]
    assert is_evaluated(config, str(tmp_path), {"condensed_set": seal})
    assert not is_evaluated(config, str(tmp_path), {"condensed_set": "of another set"})
    for other in ("evaluate.seeds=3", "evaluate.epochs=6", "evaluate.flip=true", "evaluate.architectures=convnet2"):
        assert not is_evaluated(small_config(other), str(tmp_path), {"condensed_set": seal})
    assert "condensed" in capsys.readouterr().out
    (tmp_path / "evaluation.json").write_text(json.dumps({"results": rows[1:]}))
    again = evaluate(config, RunFolder.at(tmp_path), cache)
    assert "2 of 3 rows are held" in capsys.readouterr().out
    assert again == rows  # the same seeds, the same figures


def test_rows_replace_those_of_the_same_kind(tmp_path: Path) -> None:
    def row(name: str, mean: float) -> dict[str, Any]:
        return {"set": name, "architecture": "convnet3", "protocol": "idc", "on": "test", "mean": mean}

    write_rows(str(tmp_path), [row("condensed", 1), row("random", 2)])
    write_rows(str(tmp_path), [row("condensed", 3)])
    assert [(r["set"], r["mean"]) for r in read_rows(str(tmp_path))] == [("random", 2), ("condensed", 3)]


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text('{"results": 3}')
    with pytest.raises(UserError, match=r"evaluation\.json"):
        read_rows(str(tmp_path))


def test_validation_looks_at_held_out_training_images_only(tmp_path: Path) -> None:
    config = small_config("data.validation_fraction=0.25", "evaluate.on=validation")
    cache = prepared(config, tmp_path)
    held = cache.test_set("validation")
    whole = PreparedDataset(cache.folder, small_config().data)
    assert len(held.labels) + sum(len(cache.train(label)) for label in range(4)) == sum(
        len(whole.train(label)) for label in range(4)
    )
    assert len(held.labels) == sum(round(0.25 * len(whole.train(label))) for label in range(4))


def test_compiled_networks_say_so(tmp_path: Path, ray_cluster: None) -> None:
    config = small_config("evaluate.compile=on", "evaluate.seeds=1", "evaluate.epochs=2")
    cache = condensed_run(config, tmp_path)
    rows = evaluate(config, RunFolder.at(tmp_path), cache)
    assert {row["compiled"] for row in rows} == {True}


@pytest.mark.usefixtures("ray_cluster")
def test_every_set_and_architecture_with_matrices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("condensed", "random", "mosaic", "herding", "k_center", "class_mean")
    config = small_config(
        f"evaluate.sets={','.join(names)}", "evaluate.architectures=convnet1,mlp", "evaluate.epochs=2"
    )
    cache = condensed_run(config, tmp_path)
    rows = evaluate(config, RunFolder.at(tmp_path), cache)
    assert [(row["architecture"], row["set"]) for row in rows] == [(a, s) for a in ("convnet1", "mlp") for s in names]
    counts = cache.test_set().labels.bincount().tolist()
    for row in rows:
        assert [sum(line) for line in row["confusion"]] == [2 * count for count in counts]  # summed over two seeds
        right = sum(line[label] for label, line in enumerate(row["confusion"]))
        assert row["mean"] == pytest.approx(100 * right / (2 * sum(counts)))
        assert row["training"]["epochs"] == 2
        assert row["images"] == 4 * (4 if row["set"] in ("condensed", "mosaic") else 1)
        assert row["interval95"][0] <= row["mean"] <= row["interval95"][1]
    held = json.loads((tmp_path / "evaluation.json").read_text())["scores"]
    assert [(one["architecture"], one["hlr"]) for one in held] == [("convnet1", None), ("mlp", None)]
    assert held[0]["ior"] == pytest.approx((rows[0]["mean"] - rows[1]["mean"]) / 100)
    assert not (tmp_path / "evaluation-partial.json").exists()

    # One after another they come to the same as the MLPs that were trained as one.
    alone = small_config(
        "evaluate.sets=condensed,random", "evaluate.architectures=mlp", "evaluate.epochs=2", "evaluate.together=1"
    )
    together = {row["set"]: row["accuracies"] for row in rows if row["architecture"] == "mlp"}
    (tmp_path / "evaluation.json").unlink()
    for row in evaluate(alone, RunFolder.at(tmp_path), cache):
        assert row["accuracies"] == pytest.approx(together[row["set"]], abs=2)


def test_the_whole_set_is_left_to_pretrain(tmp_path: Path) -> None:
    config = small_config("evaluate.sets=whole")
    cache = condensed_run(config, tmp_path)
    RunFolder.at(tmp_path).write_record(new_record(config, cache, placement_of(config)))
    with pytest.raises(UserError, match="python -m pipeline pretrain") as error:
        evaluate(config, RunFolder.at(tmp_path), cache)
    command = str(error.value).split("`")[1].split()
    given = _parser().parse_args(command[3:])
    assert (given.config, given.out) == (str(tmp_path / "config.json"), str(tmp_path))
    row = {"set": "whole", "architecture": "convnet1", "protocol": "pretrain", "on": "test"}
    write_rows(str(tmp_path), [{**row, "mean": 90.0, "std": 0.0, "accuracies": [90.0], "seeds": [0]}])
    (found,) = evaluate(config, RunFolder.at(tmp_path), cache)
    assert found["mean"] == 90.0


@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_evaluation_goes_on_with_the_networks_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config("evaluate.sets=condensed", "evaluate.seeds=3", "evaluate.epochs=2")
    cache = condensed_run(config, tmp_path)
    real, trained = score_all, []

    def interrupted(pending: Any, *given: Any, **named: Any) -> Any:
        for trial, scored in real(pending, *given, **named):
            trained.extend(trial.seeds)
            yield trial, scored
            if len(trained) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(f"{evaluate.__module__}.score_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, RunFolder.at(tmp_path), cache)
    assert (tmp_path / "evaluation-partial.json").exists()
    monkeypatch.setattr(f"{score_all.__module__}.commit", lambda: "of another day")
    (row,) = evaluate(config, RunFolder.at(tmp_path), cache)
    assert row["commit"].split(", ") == sorted({"of another day", commit() or "of another day"})
    assert sorted(trained) == [0, 1, 2]  # none of them twice
    assert "1 of 3 networks are held" in capsys.readouterr().out
    assert not (tmp_path / "evaluation-partial.json").exists()
    (tmp_path / "evaluation.json").unlink()
    trained.append(0)
    (again,) = evaluate(config, RunFolder.at(tmp_path), cache)
    assert again == {**row, "commit": "of another day"}


@pytest.mark.usefixtures("ray_cluster")
def test_the_best_epoch_is_a_labelled_figure_beside_the_last(tmp_path: Path) -> None:
    config = small_config("evaluate.sets=condensed")
    cache = condensed_run(config, tmp_path)
    (plain,) = evaluate(config, RunFolder.at(tmp_path), cache)
    (row,) = evaluate(small_config("evaluate.sets=condensed", "evaluate.best_epoch=2"), RunFolder.at(tmp_path), cache)
    assert "best_epoch_compatibility" not in plain
    assert row["accuracies"] == plain["accuracies"]
    best = row["best_epoch_compatibility"]
    assert best["every"] == 2
    assert all(one >= last for one, last in zip(best["accuracies"], row["accuracies"], strict=True))


@pytest.mark.usefixtures("ray_cluster")
def test_a_row_answers_for_its_own_class_shards(tmp_path: Path) -> None:
    config = small_config("evaluate.sets=condensed", "evaluate.seeds=1", "evaluate.epochs=1")
    cache = condensed_run(config, tmp_path)
    (row,) = evaluate(config, RunFolder.at(tmp_path), cache)
    assert row["class_shards"] == cache.seal
    seal = row["condensed_set"]
    origins = {"condensed_set": seal, "class_shards": cache.seal}
    assert held_row(config, str(tmp_path), "condensed", "convnet1", origins, 4) is not None
    assert held_row(config, str(tmp_path), "condensed", "convnet1", {**origins, "class_shards": "others"}, 4) is None


def test_too_few_real_images_are_said(tmp_path: Path) -> None:
    config = small_config()
    cache = condensed_run(config, tmp_path)
    many = with_settings(config, ["condense.images_per_class=100000"])
    with pytest.raises(UserError, match=r"training images, needed 100000"):
        training_set("random", many, str(tmp_path), cache, 0)


@pytest.mark.usefixtures("ray_cluster")
def test_an_empty_validation_split_is_said(tmp_path: Path) -> None:
    config = small_config("data.validation_fraction=0.0001", "evaluate.on=validation")
    cache = condensed_run(config, tmp_path)
    with pytest.raises(UserError, match=r"data.validation_fraction=0.0001 holds out no image"):
        evaluate(config, RunFolder.at(tmp_path), cache)


@pytest.mark.usefixtures("ray_cluster")
def test_what_ends_beside_a_failure_is_not_lost() -> None:
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
