"""CutMix: partners, boxes, shares and the mixed loss."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from m3d.encoders import Network
from m3d.seeding import generator
from m3d.training.cutmix import draw_box
from m3d.training.trainer import _loss
from tests.m3d.training.easy_problem import QUIET


class Spy(Network):
    """Keeps what it is shown, and answers with fixed logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.seen = logits, []
        self.classifier = torch.nn.Linear(1, 1)

    def forward(self, x):
        self.seen.append(x)
        return self.logits


def test_cutmix_shares():
    """Image i holds the value i: the pixels of a mixed image tell its partner and the partner's share."""
    count, logits = 6, torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    batch = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 8, 10).contiguous()
    labels, shares = torch.arange(6), []
    for seed in range(30):
        spy = Spy(logits)
        loss = _loss(spy, batch, labels, replace(QUIET, cutmix_probability=1.0), generator(seed, "test"))
        mixed, expected, partners = spy.seen[0], 0.0, []
        area = max(float((mixed[i] != i).float().mean()) for i in range(count))
        for i in range(count):
            others = mixed[i][mixed[i] != i].unique().tolist()
            partner = int(others[0]) if others else i
            assert len(others) <= 1
            assert not others or float((mixed[i] != i).float().mean()) == pytest.approx(area)
            partners.append(partner)
            one, two = (F.cross_entropy(logits[i], torch.tensor(label)) for label in (i, partner))
            expected += float((1 - area) * one + area * two) / count
        assert area == 0 or sorted(partners) == list(range(count))
        assert float(loss) == pytest.approx(expected, rel=1e-5)
        shares.append(area)
    assert len(set(shares)) > 10
    assert max(shares) > 0.4
    assert torch.equal(batch[:, 0, 0, 0], torch.arange(6.0))  # the batch itself is left as it was


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_cutmix_probability(probability):
    batch = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 32, 32).contiguous()
    config, random = replace(QUIET, cutmix_probability=probability), generator(0, "test")
    spy = Spy(torch.zeros(6, 6))
    for _ in range(300):
        _loss(spy, batch, torch.arange(6), config, random)
    changed = sum(not torch.equal(seen, batch) for seen in spy.seen) / 300
    assert changed == pytest.approx(probability, abs=0.07)


def test_box_area_is_beta_distributed():
    random = generator(0, "test")
    boxes = [draw_box(224, 224, 1.0, random) for _ in range(2000)]
    assert all(0 <= top <= bottom <= 224 and 0 <= left <= right <= 224 for top, bottom, left, right in boxes)
    inner = [(b - t) * (r - x) / 224**2 for t, b, x, r in boxes if t > 0 and x > 0 and b < 224 and r < 224]
    assert max(inner) > 0.3
    areas = torch.tensor([(b - t) * (r - x) / 224**2 for t, b, x, r in boxes])
    # E[area] with uniform centre and side s, clipped: E[(s - s^2 / 4)^2] with s^2 uniform is 1/2 - 1/5 + 1/48.
    assert float(areas.mean()) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.015)
