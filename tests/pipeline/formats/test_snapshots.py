"""Snapshots of a condensation: when they are taken, what they contain, and which ones are believed."""

from pathlib import Path

import pytest
import torch

from pipeline.formats.snapshots import read_snapshots, reduced, snapshot_iterations, write_snapshot
from pipeline.storage.tensors import write_tensors

GROUPS = ((2, 0), (1,))


def write(folder: Path, iteration: int, *, identity: str = "run", groups: tuple[int, ...] = (0, 1)) -> None:
    for group in groups:
        labels = torch.tensor(GROUPS[group], dtype=torch.uint8)
        images = labels.view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4).contiguous()
        write_snapshot(str(folder), group, iteration, images, identity)


@pytest.mark.parametrize(
    ("iterations", "count", "expected"),
    [(100, 4, [0, 6, 25, 56]), (10_000, 8, [0, 156, 625, 1406, 2500, 3906, 5625, 7656]), (2, 8, [0, 1]), (5, 1, [0])],
)
def test_snapshots_are_close_at_the_start(iterations: int, count: int, expected: list[int]) -> None:
    assert snapshot_iterations(iterations, count) == expected
    assert snapshot_iterations(iterations, 0) == []


def test_a_snapshot_has_the_first_images_as_bytes_and_large_ones_reduced() -> None:
    small = reduced(torch.linspace(-0.1, 1.1, 12).view(1, 12, 1, 1, 1).expand(1, 12, 1, 8, 8))
    assert (small.shape, small.dtype) == ((1, 10, 1, 8, 8), torch.uint8)
    assert small[0, :, 0, 0, 0].tolist() == pytest.approx([0, 2, 30, 58, 86, 114, 141, 169, 197, 225], abs=1)
    assert reduced(torch.zeros((1, 1, 3, 200, 200))).shape == (1, 1, 3, 96, 96)


def test_images_are_read_in_the_order_of_the_labels(tmp_path: Path) -> None:
    for iteration in (25, 0):
        write(tmp_path, iteration)
    first, second = read_snapshots(str(tmp_path), GROUPS, "run", classes=3)
    assert (first.iteration, second.iteration) == (0, 25)
    assert first.images_KSCHW.shape == (3, 2, 3, 4, 4)
    assert first.images_KSCHW[:, 0, 0, 0, 0].tolist() == [0, 1, 2]


def test_incomplete_foreign_and_damaged_snapshots_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, 1, groups=(0,))
    write(tmp_path, 2, identity="another")
    write(tmp_path, 3)
    damaged = tmp_path / "group-00001-000000003.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    write(tmp_path, 4)
    other = {"images": torch.zeros((1, 2, 3, 5, 5), dtype=torch.uint8)}
    path = str(tmp_path / "group-00001-000000004.safetensors")
    write_tensors(path, other, {"iteration": "4", "identity": "run"}, checked="iteration")
    (tmp_path / "group-00000-5.safetensors").write_bytes(b"")
    write(tmp_path, 6)
    assert [snapshot.iteration for snapshot in read_snapshots(str(tmp_path), GROUPS, "run", classes=3)] == [6]
    assert read_snapshots(str(tmp_path / "none"), GROUPS, "run", classes=3) == []


def test_groups_of_later_classes_are_not_opened(tmp_path: Path) -> None:
    write(tmp_path, 7)
    (tmp_path / "group-00000-000000007.safetensors").write_bytes(b"damaged")
    (snapshot,) = read_snapshots(str(tmp_path), ((1, 2), (0,)), "run", classes=1)
    assert snapshot.images_KSCHW[:, 0, 0, 0, 0].tolist() == [1]
