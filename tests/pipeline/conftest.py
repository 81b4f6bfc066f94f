"""What the tests of the pipeline share: one local Ray cluster, folders of small images, and the command line."""

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.observability import prometheus
from pipeline.runtime.session import MALLOC
from pipeline.storage import s3
from tests.pipeline.support.gauges import RecordingGauge
from tests.pipeline.support.images import write_folder
from tests.pipeline.support.s3_service import Proxy, Service, environment


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A cluster of two CPUs in this process, for the whole session; ``session.start`` stays connected to it."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        for name, value in MALLOC.items():  # as session.start sets them
            patch.setenv(name, value)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve PNGs of 12 x 12 px in train and four in test, for each of the classes ant, bee and cat."""
    return write_folder(tmp_path / "images", {"train": 12, "test": 4})


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opens memory:// as well, which stands for the other schemes."""
    monkeypatch.setattr("pipeline.storage.paths.OTHER_SCHEMES", ("memory",))


@pytest.fixture(autouse=True)
def _settings_of_the_storage_are_forgotten() -> Iterator[None]:
    """A command leaves them in the environment for the processes that it starts."""
    yield
    os.environ.pop(s3.VARIABLE, None)


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, ...], float]:
    """Values of Prometheus's metrics by name and tags, instead of Ray's gauges and counters."""
    monkeypatch.setattr(prometheus, "Gauge", RecordingGauge)
    monkeypatch.setattr(prometheus, "Counter", RecordingGauge)
    monkeypatch.setattr(RecordingGauge, "values", {})
    return RecordingGauge.values


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """An S3 service that asks for no credentials, for the whole session."""
    made = Service()
    yield made
    made.stop()


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    """A proxy before the service; it does no harm until it is told to."""
    made = Proxy(service.port)
    yield made
    made.stop()


@pytest.fixture
def bucket(service: Service, monkeypatch: pytest.MonkeyPatch) -> str:
    """s3://NAME of an empty bucket; the environment of the test leads to it."""
    for name, value in environment(service.endpoint).items():
        monkeypatch.setenv(name, value)
    name = f"test-{uuid.uuid4().hex[:12]}"
    service.bucket(name)
    return f"s3://{name}"


Told = tuple[int, list[str], str]
"""Exit code, lines on stderr, stdout."""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Told]]:
    """Runs a command line in this process."""

    def run(*arguments: str) -> Told:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return code, said.err.splitlines(), said.out

    before = os.environ.get("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
    yield run
    if before is None:
        os.environ.pop("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", None)
