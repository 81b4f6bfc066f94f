"""The picture of the features: the same for the same run, and bounded."""

from pathlib import Path

import pytest
import torch

from pipeline.formats.condensed_reader import load_condensed
from pipeline.formats.run_folder import RunFolder
from pipeline.workflow.report import feature_space as module
from pipeline.workflow.report.feature_space import FeatureSpace, feature_space
from pipeline.workflow.report.real_images import real_sample
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.runs import small_config


def picture(folder: Path) -> FeatureSpace:
    config = small_config()
    dataset = condensed_run(config, folder)
    real = real_sample(dataset, "", classes=["0", "1", "2", "3"], seed=0)
    stored = load_condensed(str(folder), decode=False).stored
    found = feature_space(config, RunFolder.at(folder), dataset, stored, real.by_label)
    assert found is not None
    return found


def test_every_image_has_a_place_and_the_same_run_the_same_picture(tmp_path: Path) -> None:
    first, second = picture(tmp_path / "a"), picture(tmp_path / "b")
    assert first == second
    assert [cloud.name for cloud in first.clouds] == ["0", "1", "2", "3"]
    assert (first.real, first.ours) == (240, 16)
    assert 0 < first.shares[1] <= first.shares[0] < 100
    places = [point for cloud in first.clouds for point in (*cloud.real, *cloud.ours)]
    assert all(0 <= point.x <= first.width and 0 <= point.y <= first.height for point in places)


def test_a_costly_network_sees_fewer_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLOPS", 1.0)
    found = picture(tmp_path)
    assert (found.real, found.ours) == (4, 4)


def test_main_components_are_those_of_a_known_cloud() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn((500, 3), generator=generator).double() * torch.tensor([1.0, 10.0, 3.0]) + 7
    axes, centre, (first, second) = module._main_components(points)
    assert centre.tolist() == pytest.approx([7, 7, 7], abs=1)
    assert axes.abs().argmax(1).tolist() == [1, 2]
    assert first == pytest.approx(100 * 100 / 110, abs=3)
    assert second == pytest.approx(100 * 9 / 110, abs=3)
