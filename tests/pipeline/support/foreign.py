"""What somebody else may put into a folder, and a server of theirs that notes who calls."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipeline.storage.documents import sealed


class Stranger:
    """A server that answers everything and notes method, path and headers of each request."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                seen.append(f"{self.command} {self.path} {dict(self.headers)}")
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="stranger", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=30)


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a sealed document and seals it again, as its author can."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(sealed(document)))
