"""Images for a machine without Ray: packed, then loaded."""

import sys
from pathlib import Path

import pytest
import torch

from tests.pipeline.support.runs import prepared, small_config
from tests.reproduce import pack
from tests.reproduce.packed import PartsError, load
from tests.reproduce.test_reproduce import small_run


def test_packed_images_are_those_of_the_class_shards(parts: Path) -> None:
    cache = prepared(small_config(), parts.parent / "again")
    held = load(parts)
    assert len(held.train) == 4
    for label, images in enumerate(held.train):
        torch.testing.assert_close(images, cache.train(label), rtol=0, atol=0)
    expected = cache.test_set("test")
    torch.testing.assert_close(held.test.images, expected.images, rtol=0, atol=0)
    torch.testing.assert_close(held.test.labels, expected.labels, rtol=0, atol=0)
    assert (held.test.mean, held.test.std, held.test.classes) == (expected.mean, expected.std, 4)


def test_damaged_or_missing_parts_are_reported(parts: Path) -> None:
    path = parts / "part-001.pt"
    data = bytearray(path.read_bytes())
    for damaged in (data[: len(data) // 2], data[:2000] + bytes([data[2000] ^ 1]) + data[2001:], b""):
        path.write_bytes(damaged)
        with pytest.raises(PartsError, match=r"part-001.pt: is damaged; copy it again"):
            load(parts)
    path.unlink()
    with pytest.raises(PartsError, match=r"tests.reproduce.pack writes them"):
        load(parts)
    other = torch.load(parts / "part-000.pt", weights_only=True)
    torch.save({**other, "packing": "another"}, path)
    with pytest.raises(PartsError, match="has parts of several packings"):
        load(parts)


def test_a_run_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(tmp_path / "run", monkeypatch)
    cache = prepared(small_config(), tmp_path / "again")
    monkeypatch.setattr(sys, "argv", ["pack", str(run), str(tmp_path / "parts")])
    with pytest.raises(SystemExit, match="2"):
        pack.main()
    assert "does not have all images of CIFAR-10 at 32 px; give another run" in capsys.readouterr().err
    shape, rows = (1, 8, 8), tuple((entry["train"]["rows"], entry["test"]["rows"]) for entry in cache.classes)
    monkeypatch.setattr(pack, "WANTED", (shape, rows, 0.0))
    pack.main()
    assert capsys.readouterr().out.startswith("1 parts")
    assert len(load(tmp_path / "parts").train) == 4
    monkeypatch.setattr(sys, "argv", ["pack", str(tmp_path), str(tmp_path / "parts")])
    with pytest.raises(SystemExit, match="2"):
        pack.main()
