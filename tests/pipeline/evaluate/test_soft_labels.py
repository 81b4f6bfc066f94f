"""Soft labels of a stored teacher, and the rows that they have of their own."""

from pathlib import Path

import pytest
import torch

from m3d import train
from m3d.config import Train
from pipeline.cli.parser import _parser
from pipeline.config.parsing import with_settings
from pipeline.errors import UserError
from pipeline.evaluate.results import read_rows
from pipeline.evaluate.soft_labels import probabilities
from pipeline.evaluate.stage import evaluate
from pipeline.evaluate.training_sets import set_of_run
from pipeline.formats.run_folder import RunFolder
from pipeline.pretrain import reader
from pipeline.workflow.run import run_all
from pipeline.workflow.run_state import Run
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.pretrain.test_store import trained
from tests.pipeline.support.runs import small_config

SETTINGS = (
    "pretrain.architecture=convnet1",
    "pretrain.epochs=3",
    "evaluate.sets=condensed,random",
    "evaluate.epochs=2",
)


@pytest.mark.usefixtures("ray_cluster")
def test_soft_labels_are_the_teachers_and_have_rows_of_their_own(tmp_path: Path) -> None:
    hard = small_config(*SETTINGS, "evaluate.seeds=2")
    cache = condensed_run(hard, tmp_path)
    soft = with_settings(hard, ["evaluate.labels=soft"])
    with pytest.raises(UserError, match=r"evaluate.labels=soft: .* has no convnet1 trained on these images") as error:
        evaluate(soft, RunFolder.at(tmp_path), cache)
    _parser().parse_args(str(error.value).split("`")[1].split()[3:])
    with pytest.raises(UserError, match=r"evaluate.labels=soft"):
        run_all(soft, str(tmp_path / "new"))  # before anything is condensed
    assert not (tmp_path / "new").exists()
    manifest = trained(hard, str(tmp_path), cache)
    held = set_of_run("condensed", soft, str(tmp_path), cache.folder, 0)
    teacher = reader.trained_network(str(tmp_path), manifest)
    assert torch.equal(held.labels, teacher(held.images).softmax(1).detach())
    evaluate(hard, RunFolder.at(tmp_path), cache)
    rows = evaluate(soft, RunFolder.at(tmp_path), cache)
    assert [(row["set"], row["labels"], row["teacher"]) for row in rows] == [
        ("condensed", "soft", reader.teacher_checksum(manifest)),
        ("random", "soft", reader.teacher_checksum(manifest)),
    ]
    labels = [(row["set"], row["labels"]) for row in read_rows(str(tmp_path))]
    assert sorted(labels) == [("condensed", "hard"), ("condensed", "soft"), ("random", "hard"), ("random", "soft")]
    before = read_rows(str(tmp_path))
    assert evaluate(soft, RunFolder.at(tmp_path), cache) == rows
    assert read_rows(str(tmp_path)) == before
    assert Run.at(str(tmp_path), soft).is_evaluated()
    trained(with_settings(hard, ["pretrain.trajectories=2"]), str(tmp_path), cache)
    assert Run.at(str(tmp_path), soft).is_evaluated()  # by the same teacher
    (tmp_path / "experts" / "convnet1" / "manifest.json").unlink()
    assert Run.at(str(tmp_path), soft).is_evaluated()  # which is no longer there
    trained(with_settings(hard, ["pretrain.epochs=4"]), str(tmp_path), cache)
    assert not Run.at(str(tmp_path), soft).is_evaluated()  # another teacher
    assert Run.at(str(tmp_path), hard).is_evaluated()


def test_probabilities_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.rand(9, 1, 8, 8), torch.arange(9) % 3
    network = train("convnet1", images, labels, classes=3, config=Train(epochs=2, batch=4), seed=0)
    whole = probabilities(network, images)
    monkeypatch.setattr("pipeline.evaluate.soft_labels.BLOCK_PIXELS", 2 * 64)
    torch.testing.assert_close(probabilities(network, images), whole)
    torch.testing.assert_close(whole.sum(1), torch.ones(9))


def test_one_hot_soft_labels_train_like_hard_ones() -> None:
    images, labels = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    config = Train(epochs=4, batch=4, cutmix_probability=0.5)
    hard = train("convnet1", images, labels, classes=3, config=config, seed=0)
    soft = train("convnet1", images, torch.nn.functional.one_hot(labels, 3).float(), classes=3, config=config, seed=0)
    for name, value in hard.state_dict().items():
        torch.testing.assert_close(soft.state_dict()[name], value)
