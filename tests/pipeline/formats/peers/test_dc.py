"""Files of DC, DSA and DM."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3d import decode, standardise
from pipeline.config.run_config import Data
from pipeline.errors import UserError
from pipeline.formats.peers import dc, published_moments
from tests.pipeline.support.peers import IMAGES, LABELS, MEAN, NORMALISED, STD, read_peer, saved


def test_dc_takes_the_last_pair_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path, {"data": [[IMAGES * 0, LABELS], [NORMALISED, LABELS]], "accs_all_exps": {"ConvNet": [30.5]}})
    assert torch.equal(read_peer(f"{path}:dc").images, NORMALISED)


def test_dc_with_numpy_accuracies_is_read(tmp_path: Path) -> None:
    accuracies = {"ConvNet": [np.float64(30.5), np.float32(2)]}
    path = saved(tmp_path, {"data": [[NORMALISED, LABELS]], "accs_all_exps": accuracies})
    assert torch.equal(read_peer(f"{path}:dc").images, NORMALISED)


def test_normalised_tiles_are_decoded_as_pixels(tmp_path: Path) -> None:
    peer = read_peer(saved(tmp_path, {"data": [[NORMALISED, LABELS]]}) + ":dc:factor=2")
    torch.testing.assert_close(peer.images, standardise(decode(IMAGES[:, None], 2).flatten(0, 1), MEAN, STD))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "data.pt")
    dc.write(path, NORMALISED, LABELS)
    stored = dc.read(path)
    assert torch.equal(stored.images, NORMALISED)
    assert stored.labels.tolist() == LABELS.tolist()
    assert read_peer(f"{path}:dc").labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("content", [{"data": []}, [IMAGES, LABELS]])
def test_another_layout_is_refused(tmp_path: Path, content: Any) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(UserError, match="is not of layout dc"):
        read_peer(f"{path}:dc")


@pytest.mark.parametrize(
    ("data", "mean"),
    [(Data(name="CIFAR100"), 0.5071), (Data(source="image_folder", subset="imagenette"), 0.485)],
)
def test_published_moments(data: Data, mean: float) -> None:
    moments = published_moments("dc", data)
    assert moments is not None
    assert moments[0][0] == mean
    assert published_moments("dc", Data(name="photos")) is None
