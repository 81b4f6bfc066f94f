"""The memory tier of the real images, chosen by sizes, and its description."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.condense.memory_tier import GIB, choose_tier, host_memory


@pytest.mark.parametrize(
    ("needed", "host", "device", "name"),
    [
        (1, 10, None, "device"),
        (4, 10, None, "device"),
        (5, 10, None, "mapped"),
        (1, 10, 16, "device"),
        (8, 10, 16, "device"),
        (9, 100, 16, "host"),
        (9, 10, 16, "mapped"),
        (8, 1, 16, "device"),
    ],
)
def test_the_fastest_tier_that_fits(needed: int, host: int, device: int | None, name: str) -> None:
    tier = choose_tier(needed * GIB, host=host * GIB, device=None if device is None else device * GIB)
    assert tier.name == name
    assert f"{needed}.00 GiB in the largest group" in tier.described()
    assert f"{host}.0 GiB of host memory" in tier.described()


@pytest.mark.parametrize("wanted", ["device", "host", "mapped"])
def test_a_setting_decides(wanted: Any) -> None:
    assert choose_tier(GIB, host=1, device=1, wanted=wanted).name == wanted


@pytest.mark.parametrize(
    ("below", "limit", "used", "cached"),
    [
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_the_memory_of_a_container_counts(tmp_path: Path, below: str, limit: str, used: str, cached: str) -> None:
    free = host_memory(tmp_path)
    assert free > 2**20
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    for name, content in ((limit, "700000"), (used, "500000"), ("memory.stat", f"anon 5\n{cached} 300000\n")):
        (folder / name).write_text(content)
    assert host_memory(tmp_path) == 500_000
    (folder / limit).write_text("max")
    assert host_memory(tmp_path) > 2**20
