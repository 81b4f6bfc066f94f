"""Everything that can go wrong when connecting to a job server is one line."""

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError
from cluster.jobs import client
from cluster.jobs.client import address_of
from cluster.local import ports
from tests.cluster.conftest import TIMEOUT_S, cluster, one_line

TOKEN = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    ("option", "profile", "environment", "address"),
    [
        ("http://a:1", "http://b:2", {"RAY_API_SERVER_ADDRESS": "http://c:3"}, "http://a:1"),
        (None, "http://b:2", {"RAY_API_SERVER_ADDRESS": "http://c:3"}, "http://b:2"),
        (None, None, {"RAY_API_SERVER_ADDRESS": "http://c:3", "RAY_ADDRESS": "http://d:4"}, "http://c:3"),
        (None, None, {"RAY_ADDRESS": "https://d:4/"}, "https://d:4"),
        ("https://ray.example.com/team-a/", None, {}, "https://ray.example.com/team-a"),
        ("https://hub/user/me@example.com/proxy/8265/", None, {}, "https://hub/user/me@example.com/proxy/8265"),
        ("http://[::1]:8265", None, {}, "http://[::1]:8265"),
    ],
)
def test_the_address_of_the_option_takes_precedence(
    option: str, profile: str, environment: dict[str, str], address: str
) -> None:
    assert address_of(option, profile, environment) == address


@pytest.mark.parametrize(
    "option",
    [
        "ray://head:10001",
        "head:6379",
        "http://me:word@head:8265",
        "http://me:pass/word@head:8265/path",
        "me:word@head:8265",
        "https://head/a?token=word",
        "http://head:8265/#/jobs/word",
        "http://head:port",
        "http://",
    ],
)
def test_an_address_of_another_kind_is_refused(option: str) -> None:
    with pytest.raises(ClusterError, match="is not the address of a job server; give http://HOST:PORT") as caught:
        address_of(option, None, {})
    assert "word" not in str(caught.value)


@settings(max_examples=100)
@given(st.text("htp:/s@?#[]. a1é\n\x1b", max_size=30) | st.text(max_size=30))
def test_any_address_is_one_of_a_job_server_or_an_error(text: str) -> None:
    try:
        address = address_of(text, None, {})
    except ClusterError as error:
        assert "not the address of a job server" in str(error) or "not given" in str(error)
        assert str(error).isprintable()
    else:
        assert address == text.rstrip("/")
        assert not set("?# \n") & set(address)
        assert "@" not in address.split("/")[2]


class Proxy(BaseHTTPRequestHandler):
    """A reverse proxy with a job server below ``/team-a``; keeps the requests that it gets."""

    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        answers = {"/team-a/api/version": {"version": "4", "ray_version": "2.60.0"}, "/team-a/api/jobs/": []}
        body = json.dumps(answers.get(self.path)).encode()
        self.send_response(200 if self.path in answers else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None: ...


def test_a_job_server_behind_a_path_gets_all_requests_and_the_token() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{http_server.server_address[1]}/team-a/"
        done = cluster("list", "--address", address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
        http_server.shutdown()
    assert (done.returncode, done.stdout) == (0, "no jobs\n"), done.stderr
    assert {path for path, _ in Proxy.seen} == {"/team-a/api/version", "/team-a/api/jobs/"}
    assert ("/team-a/api/jobs/", f"Bearer {TOKEN}") in Proxy.seen


def test_a_missing_address_is_reported() -> None:
    with pytest.raises(ClusterError, match=r"--address: not given; name the cluster's job server"):
        address_of(None, None, {"RAY_ADDRESS": "10.0.0.1:6379"})


def test_no_server() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{one.getsockname()[1]}"
        message = one_line(cluster("submit", "--address", address, "--", "run", "--out", "/shared/a"))
    assert message.startswith(f"error: {address}: does not answer (Connection refused); check that the cluster is up")


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT_S", 0.3)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        with pytest.raises(ClusterError, match="timed out"):
            client.connect(f"http://127.0.0.1:{one.getsockname()[1]}")


def test_a_server_that_stops_answering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REQUEST_S", 0.5)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # connect sets it
    done = threading.Event()
    version = b'{"version": "4", "ray_version": "2.60.0"}'
    with socket.create_server(("127.0.0.1", 0)) as one:

        def answer() -> None:
            while True:
                with one.accept()[0] as other:
                    if b" /api/version " not in other.recv(10_000):
                        done.wait(30)
                        return
                    other.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(version), version))

        threading.Thread(target=answer, daemon=True).start()
        server = client.connect(f"http://127.0.0.1:{one.getsockname()[1]}")
        with (
            pytest.raises(ClusterError, match=r"does not answer \(ReadTimeout\)"),
            client.errors_in_one_line("http://h"),
        ):
            server.client.list_jobs()
        done.set()


def test_a_port_of_another_protocol() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:

        def answer() -> None:
            with one.accept()[0] as other:
                other.sendall(b"\x00\x00\x12\x04 no HTTP, as the port that nodes join\n")
                other.recv(1000)

        threading.Thread(target=answer, daemon=True).start()
        address = f"http://127.0.0.1:{one.getsockname()[1]}"
        assert not ports.answers(address)
        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ClusterError, match="is not a job server of Ray"):
            client.connect(address)


@pytest.mark.parametrize(("status", "body"), [(404, None), (200, b"<html>"), (200, ["a"]), (500, None)])
def test_a_server_of_another_kind(server: Callable[..., str], status: int, body: object) -> None:
    with pytest.raises(ClusterError, match="is not a job server of Ray"):
        client.connect(server(status, body))


def test_another_version(server: Callable[..., str]) -> None:
    address = server(200, {"version": "4", "ray_version": "2.40.0"})
    message = one_line(cluster("list", "--address", address))
    assert message.startswith(
        f"error: {address}: runs Ray 2.40.0, but Ray 2.60.0 is installed here; use the environment"
    )


@pytest.mark.parametrize(
    ("status", "more", "message"),
    [
        (401, {}, "requires a token, but none was given; set RAY_AUTH_MODE=token"),
        (403, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}, "refuses the token; set RAY_AUTH_MODE=token"),
    ],
)
def test_a_refused_token_is_reported_and_not_shown(
    server: Callable[..., str], status: int, more: dict[str, str], message: str
) -> None:
    address = server(status, None)
    done = cluster("submit", "--address", address, "--", "run", "--out", "/shared/a", timeout=TIMEOUT_S, **more)
    assert one_line(done).startswith(f"error: {address}: {message}")
    assert TOKEN not in done.stdout + done.stderr


class AuthenticationError(Exception): ...


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AuthenticationError("Authentication failed: Forbidden"), "refuses the token"),
        (AuthenticationError("Authentication required: Unauthorized"), "requires a token"),
        (
            RuntimeError("Request failed with status code 404: Job x does not exist."),
            "job-1: is not a job of http://head:1",
        ),
        (RuntimeError("Request failed with status code 413: too large"), "refuses the upload as too large"),
        (
            RuntimeError("Request failed with status code 500: Traceback\n x"),
            "http://head:1: answered 500: Traceback; see",
        ),
        (ConnectionError("broken"), "does not answer"),
        (
            RuntimeError("\x1b]0;owned\x07 at http://me:word@inner/ " + "x" * 1000),
            "http://head:1: \\x1b]0;owned\\x07 at",
        ),
    ],
)
def test_what_a_client_raises_becomes_one_line(error: Exception, message: str) -> None:
    with pytest.raises(ClusterError) as caught, client.errors_in_one_line("http://head:1", "job-1"):
        raise error
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert "word" not in str(caught.value)
    assert len(str(caught.value)) < 400
