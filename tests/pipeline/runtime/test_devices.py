"""The device that Ray assigned to a process, and its short name."""

import pytest
import torch

from m3d.backend.device_names import short_device_name
from pipeline.runtime import devices
from pipeline.runtime.devices import assigned_device


@pytest.mark.parametrize(
    ("assigned", "exists", "kind"), [([0], True, "cuda"), ([], True, "cpu"), ([0], False, "cpu"), ([], False, "cpu")]
)
def test_a_gpu_is_used_if_it_is_assigned_and_exists(
    monkeypatch: pytest.MonkeyPatch, assigned: list[int], exists: bool, kind: str
) -> None:
    monkeypatch.setattr(devices.ray, "get_gpu_ids", lambda: assigned)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: exists)
    assert assigned_device().type == kind


def test_a_short_name_is_that_of_the_gpu_or_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    assert short_device_name(torch.device("cuda")) == "NVIDIA H100"
    assert short_device_name(torch.device("cpu")) == "CPU"
