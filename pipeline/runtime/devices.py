"""The device that Ray assigned to a process. Its names are in m3d.backend.device_names."""

import ray
import torch


def assigned_device() -> torch.device:
    """The GPU that Ray assigned to this actor or task if it exists, otherwise the CPU."""
    # An actor without a GPU share sees every GPU of its node, and a logical GPU need not exist.
    has_gpu = bool(ray.get_gpu_ids()) and torch.cuda.is_available()
    return torch.device("cuda") if has_gpu else torch.device("cpu")
