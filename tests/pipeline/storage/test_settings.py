"""Storage settings are active as soon as a configuration is made, and one module alone activates them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline
from pipeline.config.presets import preset
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.storage import s3
from pipeline.storage.settings import activate, load_config
from tests.pipeline.conftest import Told


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(s3.VARIABLE, "")


def test_activate_applies_the_changes_and_makes_them_active() -> None:
    config = activate(preset("cifar10_ipc10"), ["storage.attempts=3", "seed=7"])
    assert (config.storage.attempts, config.seed, config.condense.images_per_class) == (3, 7, 10)
    assert s3.active_settings().attempts == 3
    activate(RunConfig())
    assert s3.active_settings().attempts == RunConfig().storage.attempts


def test_a_command_activates_the_settings_of_its_configuration(call: Callable[..., Told], tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"storage": {"attempts": 5}}')
    code, errors, _ = call("show-config", "--config", str(file))
    assert (code, errors) == (0, [])
    assert s3.active_settings().attempts == 5


def test_only_one_module_activates() -> None:
    root = Path(pipeline.__file__).parent
    callers = [path for path in root.rglob("*.py") if re.search(r"\bs3\.use\(", path.read_text())]
    assert [str(path.relative_to(root)) for path in callers] == ["storage/settings.py"]


def test_load_config(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"config": {"seed": 3}, "resolved": {}}')
    assert load_config(str(file)).seed == 3
    with pytest.raises(UserError, match=f"^{tmp_path}: is not a file; give a JSON file"):
        load_config(str(tmp_path))
