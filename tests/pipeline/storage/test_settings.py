"""Storage settings are active as soon as a configuration is made, and one module alone activates them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline
from pipeline.config.presets import preset
from pipeline.config.report import ReportSettings
from pipeline.config.run_config import Data, Resources, RunConfig
from pipeline.config.storage import Storage
from pipeline.errors import UserError
from pipeline.storage import s3
from pipeline.storage.settings import activate, adopt, load_config, repeat, require_repeated
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
    with pytest.raises(UserError, match=f"^{tmp_path}: is not a file; give a JSON or YAML file"):
        load_config(str(tmp_path))


STORED = RunConfig(
    data=Data(source="image_folder", path="/their images", cache="s3://theirs/cache"),
    storage=Storage(endpoint="http://theirs:9000", profile="admin", anonymous=True, attempts=3),
    resources=Resources(address="theirs:6379", attempts=2),
)


def test_a_folder_is_not_believed_about_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*s3.ENDPOINT_VARIABLES, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    adopted = adopt(STORED)
    assert adopted.config.storage == Storage()
    assert (adopted.config.data.path, adopted.config.data.cache, adopted.config.resources.address) == (None, None, None)
    assert (adopted.config.data.source, adopted.config.resources.attempts) == ("image_folder", 2)
    assert s3.active_settings().endpoint is None
    assert repeat(adopted.left_out).endswith(
        "to trust it, add --data '/their images' --set data.cache=s3://theirs/cache --set storage.endpoint=http://theirs:9000 "
        "--set storage.profile=admin --set resources.address=theirs:6379 --set storage.anonymous=true"
    )
    given = ["data.cache=/mine", "storage.endpoint=http://mine:1", "resources.address=local", "storage.profile=me"]
    adopted = adopt(STORED, given)
    assert s3.active_settings().endpoint == "http://mine:1"
    assert adopted.left_out == ("data.path='/their images'", "storage.anonymous=true")


def test_a_folder_is_not_believed_about_trackers() -> None:
    stored = RunConfig(report=ReportSettings(loggers=("mlflow", "wandb"), snapshots=2))
    adopted = adopt(stored)
    assert (adopted.config.report.loggers, adopted.config.report.snapshots) == ((), 2)
    assert adopt(stored, ["report.loggers=wandb"]).config.report.loggers == ("wandb",)


def test_a_file_may_name_whom_the_command_line_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*s3.ENDPOINT_VARIABLES, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    activate(RunConfig())
    with pytest.raises(
        UserError, match=r"^a: names storage.endpoint and storage.profile and resources.address, to which"
    ):
        require_repeated("a", STORED, [])
    require_repeated("a", STORED, ["storage.endpoint=http://mine:1", "storage.profile=me", "resources.address=local"])
    monkeypatch.setenv("RAY_ADDRESS", "theirs:6379")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://theirs:9000")
    activate(RunConfig())
    with pytest.raises(UserError, match=r"^a: names storage.profile, to which"):
        require_repeated("a", STORED, [])
    monkeypatch.setenv("RAY_ADDRESS", "mine:6379")
    with pytest.raises(UserError, match=r"^a: names storage.profile and resources.address, to which"):
        require_repeated("a", STORED, [])
    require_repeated("a", RunConfig(resources=Resources(address="local")), [])
