"""Files of IDC, M3D and DANCE."""

from pathlib import Path

import pytest
import torch

from m3d import decode, standardise
from pipeline.formats.peers import idc
from tests.pipeline.support.peers import IMAGES, LABELS, MEAN, STD, read_peer, saved


@pytest.mark.parametrize("factor", [1, 2])
def test_stored_images_are_decoded_and_normalised(tmp_path: Path, factor: int) -> None:
    path = saved(tmp_path, [IMAGES, LABELS])
    peer = read_peer(f"{path}:idc:factor={factor}")
    expected = standardise(decode(IMAGES[:, None], factor).flatten(0, 1), MEAN, STD)
    torch.testing.assert_close(peer.images, expected)
    assert peer.labels.tolist() == [label for label in (0, 0, 1, 1) for _ in range(factor**2)]
    assert (peer.stored, peer.mean, peer.std) == (4, MEAN, STD)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "data.pt")
    idc.write(path, IMAGES, LABELS)
    stored = idc.read(path)
    assert torch.equal(stored.images, IMAGES)
    assert stored.labels.tolist() == LABELS.tolist()
    assert read_peer(f"{path}:idc").labels.tolist() == [0, 0, 1, 1]
