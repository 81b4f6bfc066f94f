"""``verify`` finds what is wrong and prints a sentence for each."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import storage
from pipeline.cli.main import main
from pipeline.condense.manifest import new_record
from pipeline.errors import UserError
from pipeline.evaluate.results import write_rows
from pipeline.formats.arrow_schema import LISTED_CLASSES
from pipeline.formats.condensed_writer import condensed_shard
from pipeline.formats.confusion_matrix import Confusion, stored_matrix
from pipeline.formats.run_folder import RunFolder
from pipeline.pretrain.store import ExpertStore
from pipeline.storage.documents import sealed
from pipeline.workflow.verify import verify
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.pretraining import config_of as expert_config
from tests.pipeline.support.pretraining import trained
from tests.pipeline.support.rows import stored_row
from tests.pipeline.support.runs import placement_of, prepared, small_config


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of four classes in two shards."""
    config = small_config(iterations=2)
    cache = condensed_run(config, tmp_path)
    RunFolder.at(tmp_path).write_record(new_record(config, cache, placement_of(config)))
    return tmp_path


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a sealed document and seals it again, so that its content is wrong and its checksum is right."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(sealed(document)))


def replace_shard(run: Path, **changes: Any) -> None:
    """Replaces the second shard and writes its checksum to the manifest."""
    folder = run / "condensed"
    manifest = json.loads((folder / "manifest.json").read_text())
    classes = changes.get("classes", manifest["classes"][2:])
    metadata = {
        "mean": manifest["mean"],
        "std": manifest["std"],
        "factor": manifest["factor"],
        "class_order": list("0123"),
    }
    images = changes.get("images", np.full((2, 1, 1, 8, 8), 0.5, np.float32))
    data = condensed_shard(images, classes, {**metadata, **changes.get("metadata", {})})
    (folder / "shard-00001.arrow").write_bytes(data)
    entry = {"file": "shard-00001.arrow", "rows": images.shape[0] * images.shape[1], "sha256": storage.sha256(data)}
    rewrite(folder / "manifest.json", lambda document: document["shards"].__setitem__(1, entry))


def sentences(path: Path) -> str:
    return "\n".join(verify(str(path))[1])


def test_nothing_is_wrong_with_a_finished_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(str(run))[1] == []
    assert verify(str(run / "condensed"))[1] == []
    assert main(["verify", str(run)]) == 0
    assert "nothing is wrong (4 classes, 2 shards, the run around them)" in capsys.readouterr().out


def test_nothing_is_wrong_with_a_correct_replacement(run: Path) -> None:
    replace_shard(run)
    assert sentences(run) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": np.full((2, 1, 1, 8, 8), 1.5, np.float32)}, "outside 0 to 1"),
        ({"images": np.full((2, 1, 1, 8, 8), np.nan, np.float32)}, "not finite"),
        ({"images": np.full((2, 1, 1, 4, 4), 0.5, np.float32)}, "shape [1, 4, 4], the manifest says [1, 8, 8]"),
        ({"images": np.full((2, 2, 1, 8, 8), 0.5, np.float32)}, "images 0 to 0 once each: 2, 3"),
        (
            {"images": np.full((1, 1, 1, 8, 8), 0.5, np.float32), "classes": [{"label": 2, "name": "2", "wnid": ""}]},
            "without an image: 3",
        ),
        (
            {"classes": [{"label": 2, "name": "3", "wnid": ""}, {"label": 3, "name": "2", "wnid": ""}]},
            "not the manifest's for their labels: 2, 3",
        ),
        ({"metadata": {"class_order": list("3210")}}, "class order is not the manifest's"),
        ({"metadata": {"mean": [0.9]}}, "says mean [0.9]"),
        ({"metadata": {"factor": 3}}, "says factor 3"),
    ],
)
def test_the_content_of_a_shard_is_checked(run: Path, changes: dict[str, Any], sentence: str) -> None:
    replace_shard(run, **changes)
    assert sentence in sentences(run)


def test_a_manifest_of_many_images_takes_no_memory(run: Path) -> None:
    rewrite(run / "condensed" / "manifest.json", lambda document: document.update(images_per_class=10**7))
    tracemalloc.start()
    try:
        assert "images 0 to 9999999 once each: 0, 1, 2, 3" in sentences(run)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_a_damaged_shard(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "condensed" / "shard-00000.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "checksum" in sentences(run)
    assert main(["verify", str(run)]) == 1
    assert "things are wrong" in capsys.readouterr().out


def test_a_missing_shard_and_a_stray_one(run: Path) -> None:
    (run / "condensed" / "shard-00000.arrow").rename(run / "condensed" / "shard-00007.arrow")
    assert "does not exist" in sentences(run)
    assert "does not name: shard-00007.arrow" in sentences(run)
    assert "without an image: 0, 1" in sentences(run)


def test_an_unfinished_run(run: Path) -> None:
    (run / "condensed" / "manifest.json").unlink()
    assert "was never finished" in sentences(run)
    assert "was never finished" in sentences(run / "condensed")


def test_a_configuration_of_another_set(run: Path) -> None:
    rewrite(run / "config.json", lambda document: document["config"]["condense"].update(images_per_class=2))
    rewrite(run / "config.json", lambda document: document["resolved"].update(classes=["a", "b", "c", "d"]))
    assert "images_per_class 1, config.json says 2" in sentences(run)
    assert "not those of config.json" in sentences(run)


def test_a_damaged_evaluation_and_its_matrices(run: Path) -> None:
    folder = RunFolder.at(run)
    matrix = np.eye(LISTED_CLASSES + 1, dtype=np.int64)
    named: Any = stored_matrix(Confusion.of(matrix), folder.matrices)
    write_rows(folder, [stored_row("condensed", 50.0, **named)])
    assert sentences(run) == ""
    path = run / "evaluation" / named["confusion_file"]["file"]
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert f"{path}: its checksum is not the one in" in sentences(run)
    path.unlink()
    assert "does not exist" in sentences(run)
    path.write_bytes(content)
    evaluation = run / "evaluation.json"
    evaluation.write_text(evaluation.read_text().replace("50.0", "51.0"))
    assert "evaluation.json: is damaged or was changed by hand" in sentences(run)


def test_the_evaluation_of_a_set_alone_is_checked(run: Path) -> None:
    write_rows(RunFolder.at(run / "condensed"), [stored_row("condensed", 50.0)])
    assert sentences(run / "condensed") == ""
    (run / "condensed" / "evaluation.json").write_text('{"results": 3}')
    assert "evaluation.json: is damaged" in sentences(run / "condensed")


def test_a_damaged_class_shard(run: Path) -> None:
    path = next((run / "class-shards").glob("*/test-00002.arrow"))
    path.write_bytes(path.read_bytes()[:-100])
    assert "test-00002.arrow" in sentences(run)


def test_a_manifest_changed_by_hand(run: Path) -> None:
    path = run / "condensed" / "manifest.json"
    path.write_text(path.read_text().replace('"factor": 2', '"factor": 1'))
    assert "changed by hand" in sentences(run)


def test_neither_a_run_nor_a_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run"):
        verify(str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        verify(str(tmp_path / "nowhere"))


def test_a_refused_training_is_not_reported(run: Path) -> None:
    experts = ExpertStore(RunFolder.at(run), "convnet1", "identity")
    experts.claim({}, None)
    assert "the networks were never finished" in sentences(run)
    experts.disclaim()
    assert sentences(run) == ""


def test_snapshots_of_networks_are_compared_with_their_manifest(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = expert_config()
    for out in (run, tmp_path / "networks"):  # with a condensed set beside them, and without
        trained(config, RunFolder.at(out), prepared(config, tmp_path / "prepared"))
        assert main(["verify", str(out)]) == 0
        assert "3 snapshots of networks)" in capsys.readouterr().out
        path = out / "experts" / "convnet1" / "trajectory-00000" / "epoch-00003.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        assert main(["verify", str(out)]) == 1
        assert "epoch-00003.safetensors: its checksum is not the manifest's" in capsys.readouterr().out
        path.unlink()
        assert "is gone, though the manifest names it" in sentences(out)
        (out / "experts" / "convnet1" / "manifest.json").write_text("{")
        assert "experts/convnet1/manifest.json" in sentences(out)
        (out / "experts" / "convnet1" / "manifest.json").unlink()
        assert "has no manifest.json: the networks were never finished; `pretrain` goes on" in sentences(out)
