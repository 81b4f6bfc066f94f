"""Soft labels of a stored teacher, and their rows."""

from pathlib import Path

import pytest
import torch

from m3d import Train, train
from pipeline.cli.parser import build_parser
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
from tests.pipeline.support.pretraining import trained
from tests.pipeline.support.runs import small_config

SETTINGS = (
    "pretrain.architecture=convnet1",
    "pretrain.epochs=3",
    "evaluate.sets=condensed,random",
    "evaluate.epochs=2",
)


@pytest.mark.usefixtures("ray_cluster")
def test_soft_labels_are_the_teachers_predictions_and_have_their_own_rows(tmp_path: Path) -> None:
    hard = small_config(*SETTINGS, "evaluate.seeds=2")
    dataset, folder = condensed_run(hard, tmp_path), RunFolder.at(tmp_path)
    soft = with_settings(hard, ["evaluate.labels=soft"])
    with pytest.raises(UserError, match=r"evaluate.labels=soft: .* has no convnet1 trained on these images") as error:
        evaluate(soft, folder, dataset)
    build_parser().parse_args(str(error.value).split("`")[1].split()[3:])
    with pytest.raises(UserError, match=r"evaluate.labels=soft"):
        run_all(soft, str(tmp_path / "new"))  # before anything is condensed
    assert not (tmp_path / "new").exists()
    manifest = trained(hard, folder, dataset)
    labelled = set_of_run("condensed", soft, folder, dataset.folder, 0)
    teacher = reader.trained_network(folder, manifest)
    assert torch.equal(labelled.labels, teacher(labelled.images).softmax(1).detach())
    evaluate(hard, folder, dataset)
    rows = evaluate(soft, folder, dataset)
    assert [(row["set"], row["labels"], row.get("teacher")) for row in rows] == [
        ("condensed", "soft", reader.teacher_checksum(manifest)),
        ("random", "soft", reader.teacher_checksum(manifest)),
    ]
    labels = [(row["set"], row["labels"]) for row in read_rows(folder)]
    assert sorted(labels) == [("condensed", "hard"), ("condensed", "soft"), ("random", "hard"), ("random", "soft")]
    before = read_rows(folder)
    assert evaluate(soft, folder, dataset) == rows
    assert read_rows(folder) == before
    assert Run.at(folder.path, soft).is_evaluated()
    trained(with_settings(hard, ["pretrain.trajectories=2"]), folder, dataset)
    assert Run.at(folder.path, soft).is_evaluated()  # with the same teacher
    (tmp_path / "experts" / "convnet1" / "manifest.json").unlink()
    assert Run.at(folder.path, soft).is_evaluated()  # which has been deleted since
    trained(with_settings(hard, ["pretrain.epochs=4"]), folder, dataset)
    assert not Run.at(folder.path, soft).is_evaluated()  # another teacher
    assert Run.at(folder.path, hard).is_evaluated()


def test_probabilities_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.rand(9, 1, 8, 8), torch.arange(9) % 3
    network = train("convnet1", images, labels, classes=3, config=Train(epochs=2, batch=4), seed=0)
    at_once = probabilities(network, images)
    monkeypatch.setattr("pipeline.evaluate.soft_labels.BLOCK_PIXELS", 2 * 64)
    torch.testing.assert_close(probabilities(network, images), at_once)
    torch.testing.assert_close(at_once.sum(1), torch.ones(9))


def test_one_hot_soft_labels_train_like_hard_ones() -> None:
    images, labels = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    config = Train(epochs=4, batch=4, cutmix_probability=0.5)
    hard = train("convnet1", images, labels, classes=3, config=config, seed=0)
    soft = train("convnet1", images, torch.nn.functional.one_hot(labels, 3).float(), classes=3, config=config, seed=0)
    for name, value in hard.state_dict().items():
        torch.testing.assert_close(soft.state_dict()[name], value)
