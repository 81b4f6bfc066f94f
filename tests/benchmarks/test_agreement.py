"""The check of a machine says when what it computes is wrong."""

import pytest
import torch

from tests.benchmarks.agreement import Size, Way, compare, condensing, differences, training

SIZE = Size(classes=2, images=64, images_per_class=2, side=16)


@pytest.mark.parametrize("compute", [condensing, training])
def test_only_rounding_agrees(compute):
    losses, slopes = compute(SIZE, Way())
    assert differences((losses, slopes), (losses * (1 + 1e-6), slopes * (1 + 1e-6)), "float32")["agrees"]
    assert not differences((losses, slopes), (losses * 1.01, slopes), "float32")["agrees"]
    wrong = slopes.clone()
    wrong[-1] = wrong[-1].roll(1)  # of one class alone
    assert not differences((losses, slopes), (losses, wrong), "bfloat16")["agrees"]
    assert not differences((losses, slopes), (losses, slopes * torch.nan), "bfloat16")["agrees"]


def test_bfloat16_agrees_with_float32():
    found = list(compare(SIZE, [Way(precision="bfloat16")]))
    assert [one["of"] for one in found] == ["condense", "train"]
    assert all(one["loss"] > 0 and one["cosine"] < 1 and one["agrees"] for one in found)
