"""Random numbers by purpose: every draw is a function of (seed, purpose, counters) and of nothing else.

No generator is carried along. A draw therefore does not depend on the actor that makes it, on the order of the classes,
or on how often a run was interrupted.
"""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

from m3d.shapes import Float, Int

# Constants of the SplitMix64 finaliser (Steele, Lea, Flood: "Fast splittable pseudorandom number
# generators", 2014), as signed 64-bit integers: torch has no unsigned arithmetic, but signed integers wrap the same.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


@lru_cache(maxsize=4096)
def derive(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for one purpose.

    Args:
        seed: the run's seed, any integer.
        purpose: use of the numbers, such as ``"encoder"``; different purposes are independent.
        counters: position within the purpose, such as the model's index or (class id, epoch).

    Returns:
        An integer in [0, 2**63).
    """
    text = "/".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU generator at the start of the stream of (seed, purpose, counters).

    It is always on the CPU, because a draw must not depend on the device and GPU generators give other numbers.
    """
    return torch.Generator().manual_seed(derive(seed, purpose, *counters))


def uniforms(
    seed: int, purpose: str, class_ids: Int[Tensor, " K"], iteration: int, count: int
) -> Float[Tensor, "K count"]:
    """Uniform numbers for every class at one iteration, without a loop over classes.

    A counter-based hash (SplitMix64 over class, iteration and position), evaluated on the device of ``class_ids``. It
    needs no host synchronisation and gives the same numbers on every device.

    Args:
        seed: the run's seed.
        purpose: use of the numbers.
        class_ids: int64, the ids of the classes in the complete run (not in the group).
        iteration: at least 0.
        count: numbers per class.

    Returns:
        float32 in [0, 1), 24 random bits each, shape [K, count].
    """
    position = torch.arange(count, dtype=torch.int64, device=class_ids.device)
    state_K = _mix(class_ids.to(torch.int64) * _GOLDEN + derive(seed, purpose))
    state_K = _mix(state_K + (iteration + 1) * _MIX_1 % 2**63)
    bits = _mix(state_K[:, None] + (position[None, :] + 1) * _GOLDEN)
    return _shift_right(bits, 40).to(torch.float32) / 2**24


def permutation(seed: int, purpose: str, class_id: int, epoch: int, size: int) -> Int[Tensor, " size"]:
    """The order in which a class's ``size`` images are visited in one epoch: int64, shape [size]."""
    return torch.randperm(size, generator=generator(seed, purpose, class_id, epoch))


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # An arithmetic shift copies the sign bit; the mask makes it logical.
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)
