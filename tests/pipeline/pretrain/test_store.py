"""The folder of networks while it is written: other settings are refused, and the identity of settings."""

from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.pretrain.reader import ExpertSettings
from pipeline.pretrain.store import ExpertStore, identity_of, settings_of
from tests.pipeline.support.pretraining import (
    config_of,
    trained,
)
from tests.pipeline.support.runs import prepared


def test_other_settings_are_named(tmp_path: Path) -> None:
    config = config_of()
    dataset = prepared(config, tmp_path)
    manifest = trained(config, RunFolder.at(tmp_path), dataset)
    settings = settings_of(config, dataset)
    finished = ExpertStore(RunFolder.at(tmp_path), "convnet1", identity_of(settings))
    other = config_of("pretrain.batch=32", "pretrain.workers=2", "pretrain.trajectories=5")
    with pytest.raises(UserError, match=r"differing in pretrain\.batch; "):
        finished.refuse_others(manifest, settings_of(other, dataset))
    finished.refuse_others(manifest, settings)
    store = ExpertStore(RunFolder.at(tmp_path / "begun"), "convnet1", identity_of(settings))
    store.refuse_others(None, settings_of(other, dataset))
    assert store.commit is None
    store.claim(settings, "a, b")  # killed before the manifest
    assert store.commit == "a, b"
    store.refuse_others(None, settings)
    with pytest.raises(UserError, match=r"differing in pretrain\.batch; "):
        store.refuse_others(None, settings_of(other, dataset))


def test_settings_have_the_identity_of_old_commits() -> None:
    """A change here would ignore every checkpoint and trajectory that is stored."""
    settings = ExpertSettings(
        pretrain={"architecture": "convnet1", "epochs": 4},
        data={"validation_fraction": 0.0, "split_seed": 0},
        class_shards="k",
    )
    assert identity_of(settings) == "3cd7d4865aa96c345772121a793c8205"
