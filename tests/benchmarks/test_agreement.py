"""The check of a machine reports wrong results."""

import json
import sys

import pytest
import torch

from tests.benchmarks import agreement
from tests.benchmarks.agreement import Size, Way, compare, condensing, differences, training

SIZE = Size(classes=2, images=64, images_per_class=2, side=16)


@pytest.mark.parametrize("compute", [condensing, training])
def test_only_rounding_agrees(compute):
    losses, slopes = compute(SIZE, Way())
    assert differences((losses, slopes), (losses * (1 + 1e-6), slopes * (1 + 1e-6)), "float32")["agrees"]
    assert not differences((losses, slopes), (losses * 1.01, slopes), "float32")["agrees"]
    assert not differences((losses, slopes), (losses, slopes * 1.2), "bfloat16")["agrees"]
    wrong = slopes.clone()
    wrong[-1] = wrong[-1].roll(1)  # of one class only
    assert not differences((losses, slopes), (losses, wrong), "bfloat16")["agrees"]
    assert not differences((losses, slopes), (losses, slopes * torch.nan), "bfloat16")["agrees"]


def test_bfloat16_agrees_with_float32():
    lines = list(compare(SIZE, [Way(precision="bfloat16")]))
    assert [line["of"] for line in lines] == ["condense", "train"]
    assert all(line["loss"] > 0 and line["gradient"] > 0 and line["agrees"] for line in lines)


@pytest.mark.parametrize(("most", "code"), [(0.1, 0), (1e-9, 1)])
def test_the_exit_code_reports_whether_all_agree(monkeypatch, capsys, most, code):
    monkeypatch.setattr(agreement, "Size", lambda: SIZE)
    monkeypatch.setattr(agreement, "ways", lambda: [Way(precision="bfloat16"), Way()])
    monkeypatch.setitem(agreement.MOST_GRADIENT, "bfloat16", most)
    monkeypatch.setattr(sys, "argv", ["agreement", "--json"])
    assert agreement.main() == code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["agrees"] for line in lines] == [not code, not code, True, True]


def test_nothing_is_compiled_without_a_compiler(monkeypatch, capsys):
    monkeypatch.setattr("m3d.backend.compiler.missing", lambda device: "C compiler")
    assert not any(way.compiled for way in agreement.ways())
    assert "nothing is compiled: this machine has no C compiler" in capsys.readouterr().err
    monkeypatch.setattr("m3d.backend.compiler.missing", lambda device: None)
    assert any(way.compiled for way in agreement.ways())
