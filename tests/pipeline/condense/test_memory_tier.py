"""Where real images are held: by their sizes, and what is said of it."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.condense.memory_tier import GIB, choose_room, host_memory


@pytest.mark.parametrize(
    ("needed", "host", "device", "place"),
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
def test_the_fastest_place_with_room(needed: int, host: int, device: int | None, place: str) -> None:
    room = choose_room(needed * GIB, host=host * GIB, device=None if device is None else device * GIB)
    assert room.place == place
    assert f"{needed}.00 GiB in the largest group" in room.told()
    assert f"{host}.0 GiB of host memory" in room.told()


@pytest.mark.parametrize("wish", ["device", "host", "mapped"])
def test_a_wish_is_followed(wish: Any) -> None:
    assert choose_room(GIB, host=1, device=1, wish=wish).place == wish


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
