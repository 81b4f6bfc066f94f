"""What the tests of cluster share: the command line as a process, a stand-in for a job server, and real clusters."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 240.0
Done = subprocess.CompletedProcess[str]


def environment(**more: str) -> dict[str, str]:
    """The environment of a user who has set these variables and no others of Ray or AWS."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "AWS_"))}
    # Ray's workers run at niceness 15: beside other work on the same cores they would starve.
    return {**kept, "RAY_worker_niceness": "0", "PYTHONPATH": str(ROOT), **more}


def cluster(*arguments: str, timeout: float = TIMEOUT_S, **more: str) -> Done:
    """Runs ``python -m cluster`` from another folder."""
    command = [sys.executable, "-m", "cluster", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(**more), timeout=timeout, cwd=tempfile.gettempdir()
    )


def one_line(done: Done, code: int = 2) -> str:
    """The only line of an error, with the exit code checked."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.strip()


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short path, for a cluster; whatever still runs there is stopped."""
    folder = Path(tempfile.mkdtemp(prefix="m3dt", dir="/tmp"))
    try:
        yield folder
    finally:
        cluster("down-local", "--folder", str(folder), timeout=90)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def local_cluster(*arguments: str, **more: str) -> Iterator[tuple[str, Path]]:
    """Address and folder of a cluster that ``up-local`` starts with the arguments."""
    with short_folder() as folder:
        done = cluster("up-local", "--folder", str(folder), *arguments, timeout=TIMEOUT_S, **more)
        assert done.returncode == 0, done.stderr
        yield done.stdout.strip(), folder


@pytest.fixture
def server() -> Iterator[Callable[..., str]]:
    """Starts servers that answer every GET with a status and a body; gives their addresses."""
    running: list[ThreadingHTTPServer] = []

    def start(status: int = 200, body: object = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: object) -> None: ...

        http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        running.append(http_server)
        return f"http://127.0.0.1:{http_server.server_address[1]}"

    yield start
    for http_server in running:
        http_server.shutdown()
        http_server.server_close()
