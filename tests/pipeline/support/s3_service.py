"""An S3 service for the tests: moto's server as a process, and a proxy in front of it that injects faults."""

import http.client
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import Request, urlopen

KEY, SECRET = "AKIAEXAMPLEEXAMPLE00", "secretsecretsecretsecretsecret"
STARTS_S = 60.0
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
INTERNAL = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>We failed.</Message></Error>"
FORGOTTEN = b"<?xml version='1.0'?><Error><Code>NoSuchUpload</Code><Message>No such upload.</Message></Error>"
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def environment(endpoint: str, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
    """The environment that a process needs to use the service."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Service:
    """moto's server as a process, on a free port."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=kept)
        ends = time.monotonic() + STARTS_S
        while True:
            try:
                self.post("/moto-api/reset")
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > ends:
                    raise
                time.sleep(0.1)

    def post(self, path: str, body: bytes = b"") -> None:
        """Sends a request to moto's own interface."""
        request = Request(self.endpoint + path, data=body, method="POST", headers={"Content-Type": "text/plain"})
        with urlopen(request, timeout=30) as answer:
            answer.read()

    def bucket(self, name: str) -> None:
        """Creates an empty bucket."""
        with urlopen(Request(f"{self.endpoint}/{name}", method="PUT"), timeout=30) as answer:
            answer.read()

    def stop(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait(timeout=30)


@dataclass
class Faults:
    """Faults that the proxy injects."""

    share: float = 0.0
    """Fraction of the matching requests that fail."""
    kinds: tuple[str, ...] = ("500", "503", "reset", "cut", "slow")
    methods: tuple[str, ...] = ("GET", "PUT", "POST", "HEAD", "DELETE")
    containing: str = ""
    """Text that path and query of a matching request contain."""
    slow_s: float = 3.0
    most: int = 2**31
    """Most faults to inject."""
    made: list[str] = field(default_factory=list)
    """Kinds of the injected faults, in order."""
    seen: int = 0
    """Requests that arrived."""


class Proxy:
    """Forwards requests to a service, and injects ``faults`` into some of them."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self.faults, self._random, self._lock = Faults(), random.Random(seed), threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self, "target": port})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="proxy", daemon=True)
        self._thread.start()

    def fault_for(self, method: str, path: str) -> str | None:
        """The kind of fault to inject into a request, or None."""
        faults = self.faults
        with self._lock:
            faults.seen += 1
            matches = method in faults.methods and faults.containing in path
            if not matches or len(faults.made) >= faults.most or self._random.random() >= faults.share:
                return None
            kind = self._random.choice(faults.kinds)
            faults.made.append(kind)
            return kind

    def stop(self) -> None:
        """Ends the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=30)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    target: int

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault_for(self.command, self.path)
        if fault == "reset":
            # Closed at once, without the usual shutdown: the client gets "connection reset by peer".
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if fault in ("500", "503", "403"):
            self._send(int(fault), {"500": INTERNAL, "503": SLOW_DOWN, "403": DENIED}[fault], {})
            return
        if fault == "forgotten":
            self._send(404, FORGOTTEN, {})
            return
        if fault == "slow":
            time.sleep(self.proxy.faults.slow_s)
        try:
            status, headers, content = self._forwarded(body)
            self._send(status, content, headers, cut=fault == "cut")
        except OSError:
            self.close_connection = True  # the client gave up

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

    def _forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.target, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            upstream.request(self.command, self.path, body=body, headers=headers)
            answer = upstream.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            upstream.close()

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response_only(status)
        dropped = ("connection", "transfer-encoding", "content-length")
        for name, value in headers.items():
            if name.lower() not in dropped:
                self.send_header(name, value)
        length = headers.get("Content-Length", str(len(content))) if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut and len(content) > 1:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass
