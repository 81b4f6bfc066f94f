"""What identifies a row, and which request a row answers."""

import json
from pathlib import Path

import pytest

from m3d.config import ConfigError
from pipeline.config.parsing import with_settings
from pipeline.config.presets import preset
from pipeline.evaluate.results import is_evaluated, read_rows, write_rows
from pipeline.evaluate.resume import PartialEvaluation
from pipeline.evaluate.rows import Origins, RowKey, request_of, requested_rows, set_names, tracked_results, training_for
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import sealed
from tests.pipeline.support.rows import measured_row, network_score, stored_row
from tests.pipeline.support.runs import small_config

FIXTURES = Path(__file__).parent / "fixtures"
"""Documents of an evaluation of digits_ipc1 that an older version left half-way."""


def test_set_names() -> None:
    assert set_names(small_config()) == ["condensed", "random", "mosaic"]
    assert set_names(small_config("condense.factor=1")) == ["condensed", "random", "mosaic"]
    assert set_names(small_config("condense.factor=1", "condense.start=noise")) == ["condensed", "random"]
    assert set_names(small_config("evaluate.sets=herding,whole,herding")) == ["herding", "whole"]


def test_a_configuration_asks_for_every_architecture_with_every_set() -> None:
    config = small_config("evaluate.architectures=mlp,convnet1,mlp", "evaluate.sets=random,condensed")
    keys = [request.key for request in requested_rows(config, {}, 4)]
    assert [(key.architecture, key.set) for key in keys] == [
        (architecture, name) for architecture in ("mlp", "convnet1") for name in ("random", "condensed")
    ]


def test_results_for_trackers_are_named_by_what_is_unusual() -> None:
    row = stored_row("condensed", 60.0, std=1.4)
    assert tracked_results(row) == {
        "accuracy/condensed/convnet3/mean": 60.0,
        "accuracy/condensed/convnet3/std": 1.4,
    }
    other = stored_row("random", 60.0, std=0.0, protocol="dm", labels="soft", accuracies=[60.0])
    assert tracked_results(other) == {"accuracy/random/convnet3/dm/soft/mean": 60.0}  # one network has no spread


def test_a_row_of_an_older_version_has_the_defaults_in_its_key() -> None:
    row = stored_row("condensed", 60.0)
    complete = stored_row("condensed", 60.0, augmentation="protocol", labels="hard")
    assert RowKey.of(row) == RowKey.of(complete)
    assert RowKey.of(row) != RowKey.of(stored_row("condensed", 60.0, labels="soft"))


@pytest.mark.parametrize(
    "other",
    ["epochs=6", "flip=true", "augment=none", "best_epoch=2", "protocol=dm", "seeds=3", "labels=soft"],
)
def test_a_row_answers_for_its_own_training_only(other: str) -> None:
    config = small_config()
    scores = {seed: network_score([1, 0], [0, 1]) for seed in (0, 1)}
    row = measured_row(config, "condensed", scores, classes=2, condensed_set="s")
    request = request_of(config, "condensed", "convnet1", classes=2, origins={"condensed_set": "s"})
    assert request.answer([row]) is row
    another_set = request_of(config, "condensed", "convnet1", classes=2, origins={"condensed_set": "t"})
    assert another_set.answer([row]) is None
    changed = small_config(f"evaluate.{other}")
    changed_request = request_of(changed, "condensed", "convnet1", classes=2, origins={"condensed_set": "s"})
    assert changed_request.answer([row]) is None


def test_a_row_answers_for_its_own_class_shards_and_teacher() -> None:
    config = small_config()
    scores = {seed: network_score([1, 0], [0, 1]) for seed in (0, 1)}
    row = measured_row(config, "random", scores, classes=2, condensed_set="s", class_shards="x")
    asked: list[tuple[Origins, bool]] = [
        ({"condensed_set": "s"}, True),
        ({"condensed_set": "s", "class_shards": "x"}, True),
        ({"condensed_set": "s", "class_shards": "y"}, False),
        ({"condensed_set": "s", "class_shards": "x", "teacher": "of a row that names none"}, True),
        ({"class_shards": "x"}, False),
    ]
    for origins, answered in asked:
        request = request_of(config, "random", "convnet1", classes=2, origins=origins)
        assert request.is_answered_by(row) == answered, origins


def test_a_row_of_an_older_version_answers(tmp_path: Path) -> None:
    config, folder = small_config("evaluate.sets=condensed"), RunFolder.at(tmp_path)
    row = stored_row("condensed", 60.0, architecture="convnet1", epochs=5, flip=False, condensed_set="s")
    write_rows(folder, [row])
    assert is_evaluated(config, folder, {"condensed_set": "s"}, 4)
    without = small_config("evaluate.augment=none", "evaluate.sets=condensed")
    assert not is_evaluated(without, folder, {"condensed_set": "s"}, 4)


def test_the_row_of_the_whole_set_has_a_protocol_of_its_own(tmp_path: Path) -> None:
    config, folder = small_config("evaluate.sets=whole"), RunFolder.at(tmp_path)
    assert not is_evaluated(config, folder, {"condensed_set": "s"}, 4)
    write_rows(folder, [stored_row("whole", 90.0, architecture="convnet1", protocol="pretrain", seeds=[0])])
    assert is_evaluated(config, folder, {"condensed_set": "s"}, 4)


def test_imagenets_epochs_follow_from_the_views() -> None:
    config = small_config("evaluate.protocol=imagenet", "evaluate.epochs=null", "condense.images_per_class=10")
    assert training_for(config, 10).epochs == 1500  # 40 views
    assert training_for(config, 100).epochs == 1000
    assert training_for(small_config("evaluate.protocol=imagenet"), 10).epochs == 5


def test_unknown_sets_are_refused() -> None:
    with pytest.raises(Exception, match="k_center") as refusal:
        small_config("evaluate.sets=kcenter")
    assert not isinstance(refusal.value, ConfigError)


def test_score_keys_of_a_comparison_are_those_of_older_versions() -> None:
    config = with_settings(preset("digits_ipc1"), ["evaluate.epochs=150", "evaluate.best_epoch=5"])
    request = request_of(config, "a path that does not count", "convnet3", classes=10)
    key = request.score_key({"set": 1, "images": "i", "shards": "s", "held_out": [0.1, 7]})
    assert key == "8856a2f629ea63690206fdd0f2a21c0c"


def test_documents_of_an_older_version_are_kept_to_the_byte_and_sealed(tmp_path: Path) -> None:
    before = (FIXTURES / "evaluation.json").read_bytes()
    (tmp_path / "evaluation.json").write_bytes(before)
    folder = RunFolder.at(tmp_path)
    write_rows(folder, [])
    content = sealed(json.loads(before))
    seal = f',\n  "checksum": "{content["checksum"]}"\n}}\n'
    assert (tmp_path / "evaluation.json").read_text() == before.decode().removesuffix("\n}\n") + seal
    write_rows(folder, read_rows(folder))
    assert json.loads((tmp_path / "evaluation.json").read_bytes()) == content


def test_an_evaluation_of_an_older_version_is_resumed(tmp_path: Path) -> None:
    config = with_settings(preset("digits_ipc1"), ["evaluate.epochs=150", "evaluate.seeds=4"])
    partial = (FIXTURES / "evaluation-partial.json").read_bytes()
    (tmp_path / "evaluation.json").write_bytes((FIXTURES / "evaluation.json").read_bytes())
    (tmp_path / "evaluation-partial.json").write_bytes(partial)
    folder = RunFolder.at(tmp_path)
    (row,) = read_rows(folder)
    origins: Origins = {"condensed_set": row.get("condensed_set", ""), "class_shards": row.get("class_shards", "")}
    condensed, random, _ = requested_rows(config, origins, 10)
    assert condensed.answer([row]) is row
    assert random.answer([row]) is None

    store = PartialEvaluation(folder)
    key = random.score_key({**origins})
    assert key == "dc25293fa0bf3c0b1b1f15de28263699"
    (score,) = store.scores(key).values()
    assert score.accuracy == 76.88022284122563
    (tmp_path / "evaluation-partial.json").unlink()
    (again,) = json.loads(partial)["networks"].values()
    assert list(again) == ["0"]
    fresh = PartialEvaluation(folder)
    fresh.add(key, {0: score})
    assert (tmp_path / "evaluation-partial.json").read_bytes() == partial
