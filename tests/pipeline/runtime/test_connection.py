"""Addresses at which no cluster answers, and temporary folders that Ray cannot use: one line each, in seconds."""

import errno
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from m3d.config import ConfigError
from pipeline.config.run_config import Resources
from pipeline.errors import FailedError, UserError
from pipeline.runtime import connection
from pipeline.runtime.connection import require_cluster, require_short_temporary_folder, start_problem
from tests.pipeline.support.stalls import ENVIRONMENT


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 0.5)
    monkeypatch.setattr(connection, "REPLY_S", 1.0)


@pytest.fixture
def listener() -> Iterator[int]:
    """The port of a program that accepts connections and never says anything."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of a web server."""

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def refused(address: str, check: Callable[[str], None] = require_cluster) -> str:
    with pytest.raises(UserError) as caught:
        check(address)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("resources.address: ")
    return line


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_nobody_listens() -> None:
    address = f"127.0.0.1:{free_port()}"
    expected = (
        f"no Ray cluster answers at {address} (Connection refused); check it with `ray status --address {address}`"
    )
    assert refused(address) == f"resources.address: {expected}"


def test_a_name_that_does_not_resolve() -> None:
    assert "no Ray cluster answers at head.example.invalid:6379 (" in refused("head.example.invalid:6379")


def test_a_name_whose_look_up_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.2)

    def hang(*_: object, **__: object) -> None:
        time.sleep(20)
        raise OSError("nobody waits any more")

    monkeypatch.setattr(socket, "create_connection", hang)
    began = time.monotonic()
    assert "the name was not resolved in time" in refused("head.example.invalid:6379")
    assert time.monotonic() - began < 10


def test_what_listens_is_no_cluster(listener: int, web_server: int) -> None:
    assert "what listens there is no Ray cluster: DEADLINE_EXCEEDED" in refused(f"127.0.0.1:{listener}")
    assert "what listens there is no Ray cluster: UNAVAILABLE" in refused(f"localhost:{web_server}")


def test_a_connection_that_comes_late_counts(monkeypatch: pytest.MonkeyPatch, listener: int) -> None:
    attempts: list[object] = []
    connect = socket.create_connection

    def late(*arguments: Any, **options: Any) -> socket.socket:
        attempts.append(arguments)
        if len(attempts) < 2:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return connect(*arguments, **options)

    monkeypatch.setattr(socket, "create_connection", late)
    monkeypatch.setattr(connection, "ANSWER_S", 10.0)
    assert "what listens there is no Ray cluster" in refused(f"127.0.0.1:{listener}")
    assert len(attempts) == 2


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "nonsense", "host:port", "127.0.0.1:0", "127.0.0.1:99999", "http://127.0.0.1:8265", ""]
)
def test_what_is_no_address(address: str) -> None:
    assert refused(address).endswith("expected HOST:PORT, auto or local")


def test_credentials_and_long_values_are_not_repeated() -> None:
    assert "secret" not in refused("http://user:secret@host:8265")
    assert len(refused("x" * 10_000)) < 400
    with pytest.raises(ConfigError) as caught:
        Resources(address="ray://user:secret@host:10001")
    assert "secret" not in str(caught.value)


def test_a_cluster_answers(ray_cluster: None) -> None:
    require_cluster(ray.get_runtime_context().gcs_address)


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_that_is_too_long(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    require_short_temporary_folder()
    monkeypatch.setenv(variable, "/tmp/" + "ü" * 60)  # two bytes each
    with pytest.raises(
        UserError, match=rf"^{variable}: names a folder of 125 bytes, too long for Ray's sockets"
    ) as caught:
        require_short_temporary_folder()
    most = int(str(caught.value).partition("at most ")[2].split()[0])
    monkeypatch.setenv(variable, "/tmp/" + "x" * (most - 5))
    require_short_temporary_folder()
    monkeypatch.setenv(variable, "/tmp/" + "x" * (most - 4))
    with pytest.raises(UserError, match="set RAY_TMPDIR to a folder of at most"):
        require_short_temporary_folder()


def test_a_short_folder_for_ray_beside_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp/" + "x" * 200)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    require_short_temporary_folder()


def test_only_on_linux_ray_asks_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/var/folders/" + "x" * 200)
    require_short_temporary_folder()
    assert "its logs are in /tmp/ray/" in str(start_problem(RuntimeError("no port is free")))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_a_folder_in_which_ray_cannot_start(number: int) -> None:
    error = start_problem(OSError(number, os.strerror(number), "/full/ray"))
    assert isinstance(error, UserError)
    assert str(error).startswith(f"/full/ray: Ray cannot start there ({os.strerror(number)})")


@pytest.mark.parametrize("error", [RuntimeError("no port\nis free"), Exception("timed out"), ConnectionError("gone")])
def test_other_failures_of_a_start(error: Exception) -> None:
    failure = start_problem(error)
    assert isinstance(failure, FailedError)
    assert str(failure).startswith("Ray did not start on this machine (")
    assert "\n" not in str(failure)


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "pipeline", "prepare", "--preset", "digits_ipc1", "--out", str(out)]


@pytest.mark.slow
def test_a_dead_address_and_a_long_folder_on_the_command_line(tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, "RAY_ADDRESS": f"127.0.0.1:{free_port()}"}
    done = subprocess.run(command(tmp_path / "a"), capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "no Ray cluster answers at" in done.stderr
    long = tmp_path / ("slurm_jobdir_" * 8)
    long.mkdir()
    environment = {**ENVIRONMENT, "TMPDIR": str(long)}
    environment.pop("RAY_TMPDIR", None)
    done = subprocess.run(command(tmp_path / "b"), capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "TMPDIR: names a folder of" in done.stderr
    assert list(long.iterdir()) == []


@pytest.mark.slow
def test_an_interrupt_ends_the_wait_for_an_address_at_once(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(120)
        environment = {**ENVIRONMENT, "RAY_ADDRESS": f"127.0.0.1:{server.getsockname()[1]}"}
        driver = subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, text=True, env=environment)
        try:
            server.accept()[0].close()  # it is connecting
            time.sleep(0.5)
            began = time.monotonic()
            driver.send_signal(signal.SIGTERM)
            _, errors = driver.communicate(timeout=60)
            assert time.monotonic() - began < 8
        finally:
            driver.kill()
    assert driver.returncode == 130
    assert errors == "interrupted; repeat the command to resume\n"
