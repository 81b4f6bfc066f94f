"""Files of MTT: images, and labels beside them."""

from pathlib import Path

import pytest
import torch

from pipeline.config.run_config import Data
from pipeline.errors import UserError
from pipeline.formats.peers import mtt, published_moments
from tests.pipeline.support.peers import LABELS, NORMALISED, read_peer, saved


def test_mtt_finds_its_labels(tmp_path: Path) -> None:
    path = saved(tmp_path, NORMALISED, "images_best.pt")
    with pytest.raises(UserError, match=r"labels_best\.pt: does not exist"):
        read_peer(f"{path}:mtt")
    saved(tmp_path, LABELS, "labels_best.pt")
    assert torch.equal(read_peer(f"{path}:mtt").images, NORMALISED)
    assert read_peer(f"{path}:mtt").labels.tolist() == [0, 0, 1, 1]


def test_a_name_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images\*\.pt with labels\*\.pt beside it"):
        read_peer(f"{saved(tmp_path, NORMALISED)}:mtt")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "images_best.pt")
    mtt.write(path, NORMALISED, LABELS)
    stored = mtt.read(path)
    assert torch.equal(stored.images, NORMALISED)
    assert stored.labels.tolist() == LABELS.tolist()
    assert read_peer(f"{path}:mtt").labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("data", "mean"),
    [(Data(name="CIFAR100"), 0.4914), (Data(name="CIFAR10"), 0.4914)],
)
def test_published_moments(data: Data, mean: float) -> None:
    moments = published_moments("mtt", data)
    assert moments is not None
    assert moments[0][0] == mean
    assert published_moments("mtt", Data(name="photos")) is None
