"""Files of NCFM."""

from pathlib import Path
from typing import Any

import pytest
import torch

from m3d import decode, standardise
from pipeline.errors import UserError
from pipeline.formats.peers import ncfm
from tests.pipeline.support.peers import IMAGES, LABELS, MEAN, STD, read_peer, saved


@pytest.mark.parametrize("factor", [1, 2])
def test_stored_images_are_decoded_and_normalised(tmp_path: Path, factor: int) -> None:
    path = saved(tmp_path, [IMAGES, LABELS])
    peer = read_peer(f"{path}:ncfm:factor={factor}")
    expected = standardise(decode(IMAGES[:, None], factor).flatten(0, 1), MEAN, STD)
    torch.testing.assert_close(peer.images, expected)
    assert peer.labels.tolist() == [label for label in (0, 0, 1, 1) for _ in range(factor**2)]
    assert (peer.stored, peer.mean, peer.std) == (4, MEAN, STD)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "data.pt")
    ncfm.FORMAT.write(path, IMAGES, LABELS)
    stored = ncfm.FORMAT.read(path)
    assert torch.equal(stored.images, IMAGES)
    assert stored.labels.tolist() == LABELS.tolist()
    assert read_peer(f"{path}:ncfm").labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("content", [IMAGES])
def test_another_layout_is_refused(tmp_path: Path, content: Any) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(UserError, match="is not of layout ncfm"):
        read_peer(f"{path}:ncfm")
