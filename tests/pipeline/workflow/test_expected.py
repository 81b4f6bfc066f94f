"""What ``run`` and ``evaluate`` say before they start, and what ``init`` proposes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from m3d.backend.execution import training_flops
from m3d.config import ConfigError
from pipeline.config import presets
from pipeline.config.run_config import RunConfig
from pipeline.evaluate.rows import requested_rows
from pipeline.evaluate.stage import _announce, _network_work, evaluate
from pipeline.formats.run_folder import RunFolder
from pipeline.workflow import expected, proposal
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.images import write_folder
from tests.pipeline.support.runs import prepared, small_config


def test_work_grows_with_what_costs() -> None:
    base = presets.preset("cifar10_ipc1")
    at_ten = presets.preset("cifar10_ipc10")
    work = expected.condense_work(base, 10, 3)
    assert expected.condense_work(base, 20, 3) == 2 * work
    assert expected.condense_work(at_ten, 10, 3) / work == pytest.approx((128 + 80) / (128 + 8))
    assert expected.evaluate_work(at_ten, 10, 3) == 10 * expected.evaluate_work(base, 10, 3)


def test_work_is_about_what_was_measured() -> None:
    """docs/performance.md: a step of cifar10_ipc1 took 0.56 s on two cores, which do some 1e11 operations per second."""
    work = expected.condense_work(presets.preset("cifar10_ipc1"), 10, 3)
    assert 1e10 < work / 10_000 / 0.56 < 1e12


def said(config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None) -> list[str]:
    monkeypatch.setattr(expected, "time_of", lambda *_: (seconds, "roughly so long"))
    return expected.lines(config, prepared(config, folder))


def test_a_run_says_how_long_it_takes_and_that_ctrl_c_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = said(small_config(), tmp_path, monkeypatch, 600)
    assert first.startswith("expected: roughly so long for 40 iterations of 4 classes and 6 networks, ")
    assert "Ctrl-C is safe" in second


@pytest.mark.parametrize(
    ("seconds", "images", "warns"), [(3 * 3600, 5000, True), (3600, 5000, False), (3 * 3600, 500, False)]
)
def test_hours_for_a_few_images_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, images: int, warns: bool
) -> None:
    monkeypatch.setattr(expected, "FEW", images)  # the digits have 576
    lines = said(small_config(), tmp_path, monkeypatch, seconds)
    assert (len(lines) == 3) is warns
    if warns:
        assert lines[2].startswith("note: 3.0 h is long for 576 training images; --preset photos_ipc1 takes minutes")


@pytest.mark.usefixtures("ray_cluster")
def test_an_evaluation_says_how_many_networks_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.evaluate.stage.time_of", lambda *_: (600.0, "roughly 10 min on 2 CPUs"))
    monkeypatch.setattr("pipeline.evaluate.stage._evaluated", lambda *_: iter(()))
    config = small_config("evaluate.seeds=5", "evaluate.architectures=convnet1,mlp")
    dataset = condensed_run(replace(config, condense=replace(config.condense, iterations=1)), tmp_path)
    with pytest.raises(KeyError):  # no network is trained here
        evaluate(config, RunFolder.at(tmp_path), dataset)
    counts = "2 architectures x 3 sets x 5 seeds"
    assert f"evaluate: 30 networks to train ({counts}), roughly 10 min on 2 CPUs" in capsys.readouterr().out


def test_progress_of_an_evaluation_counts_the_work_of_networks(tmp_path: Path) -> None:
    config = small_config("evaluate.sets=condensed,random", "evaluate.architectures=convnet1")
    dataset = prepared(config, tmp_path)
    requests = requested_rows(config, {"condensed_set": "a", "class_shards": "b"}, 4)
    condensed, random = (_network_work(request, config, dataset) for request in requests)
    scored = dataset.counts["test"] * training_flops(1, "convnet1", 1, (1, 8, 8)) / 3
    assert condensed - scored == pytest.approx(4 * (random - scored))  # a stored image has four views


def test_rows_that_are_there_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config("evaluate.seeds=5")
    rows = [("condensed", "convnet1"), ("condensed", "mlp"), ("random", "mlp")]
    wanted = [SimpleNamespace(key=SimpleNamespace(set=name, architecture=network)) for name, network in rows]
    monkeypatch.setattr("pipeline.evaluate.stage._network_work", lambda *_: 1)
    _announce(cast(Any, wanted), config, prepared(config, tmp_path))
    assert "evaluate: 15 networks to train (3 rows x 5 seeds), less than a minute" in capsys.readouterr().out


# What init proposes


@pytest.fixture(autouse=True)
def _a_fast_machine_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposal, "measured_flops", lambda *_: 1e11)
    monkeypatch.setattr(proposal.torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("side", "gpu", "size", "encoder"),
    [
        (12, False, 16, "convnet3"),
        (28, False, 32, "convnet3"),
        (32, False, 32, "convnet3"),
        (300, False, 64, "convnet4"),
        (300, True, 128, "convnet5"),
        (40, True, 32, "convnet3"),
    ],
)
def test_size_and_encoder_follow_from_the_images_and_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, gpu: bool, size: int, encoder: str
) -> None:
    monkeypatch.setattr(proposal.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(proposal, "size_of", lambda _: (side, side + 10))
    config = proposal.propose(str(write_folder(tmp_path, {"train": 5, "test": 2}))).config
    assert (config.data.image_size, config.encoder.name, config.evaluate.architectures) == (size, encoder, (encoder,))


@pytest.mark.parametrize(
    ("kind", "source"), [("parquet", "parquet"), ("cifar", "torchvision"), ("class", "image_folder")]
)
def test_the_source_follows_from_the_files(tmp_path: Path, kind: str, source: str) -> None:
    if kind == "parquet":
        (tmp_path / "train.parquet").touch()
    elif kind == "cifar":
        (tmp_path / "cifar-10-batches-py").mkdir()
    else:
        write_folder(tmp_path, {"": 3})
        (tmp_path / "ant").rename(tmp_path / "MNIST")  # a class, by its images
    assert proposal._source(str(tmp_path)).source == source


@pytest.mark.parametrize(
    ("smallest", "wanted", "chosen"),
    [
        (1, None, (1, 1)),
        (4, None, (2, 1)),
        (300, None, (2, 1)),
        (800, None, (2, 10)),
        (40, 10, (2, 10)),
        (39, 10, (1, 10)),
    ],
)
def test_images_per_class_follow_from_the_smallest_class(
    smallest: int, wanted: int | None, chosen: tuple[int, int]
) -> None:
    assert proposal._factor_and_count(smallest, wanted) == chosen


def test_more_classes_get_fewer_iterations() -> None:
    base = presets.preset("photos_ipc1")
    few, many = (proposal._scheduled(base, classes, 1e14).condense.iterations for classes in (2, 1000))
    assert few > many
    assert many == 100


def test_a_proposal_is_allowed(tmp_path: Path) -> None:
    from pipeline.config.validation import check

    found = proposal.propose(str(write_folder(tmp_path, {"train": 5, "test": 2})))
    check(found.config)
    assert found.seconds
    with pytest.raises(ConfigError):
        replace(found.config.data, image_size=1)
