"""The complete method on one small problem against a stored loss curve."""

import json

import pytest

from tests.golden.make import CURVE, curve
from tests.helpers import GOLDEN_RTOL


def test_loss_curve():
    stored = json.loads(CURVE.read_text())
    iterations, losses = curve()
    assert iterations == stored["iterations"] == [1, 5, 10, 15, 20, 25, 30]
    for computed, expected in zip(losses, stored["losses"], strict=True):
        assert computed == pytest.approx(expected, rel=GOLDEN_RTOL[stored["origin"]["precision"]])


def test_origin_is_stored():
    origin = json.loads(CURVE.read_text())["origin"]
    assert {"made_by", "torch", "date", "precision"} <= set(origin)
