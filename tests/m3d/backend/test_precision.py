"""Which precision a name means."""

import pytest
import torch

from m3d import ConfigError
from m3d.backend.precision import convolutions, encoding, resolve

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["float32", "tf32", "bfloat16"])
def test_a_name_means_itself(name):
    assert resolve(name, CPU) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n", "bfloat16"),
        ("processor : 0\nflags\t\t: fpu avx512_bf16\n", "float32"),
        ("processor : 0\n", "float32"),
        (None, "float32"),
    ],
)
def test_auto_follows_the_hardware(monkeypatch, tmp_path, text, expected):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr("m3d.backend.precision.CPU_INFO", tmp_path / "cpuinfo")
    assert resolve("auto", CPU) == expected


@pytest.mark.parametrize(
    ("name", "dtype"), [("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_encoding(name, dtype):
    a = torch.rand(2, 2)
    with encoding(name, CPU):
        assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


def test_convolutions_leave_a_cpu_alone():
    before = torch.backends.cudnn.allow_tf32
    with convolutions("tf32", CPU):
        assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize(("name", "allowed"), [("float32", False), ("tf32", True), ("bfloat16", False)])
def test_convolutions_switch_tf32_and_back(name, allowed):
    before = torch.backends.cudnn.allow_tf32
    with convolutions(name, torch.device("cuda")):
        assert torch.backends.cudnn.allow_tf32 == allowed
    assert torch.backends.cudnn.allow_tf32 == before


def test_exception():
    with pytest.raises(ConfigError, match=r"precision: given 'half', allowed: auto, float32, tf32, bfloat16"):
        resolve("half", CPU)
