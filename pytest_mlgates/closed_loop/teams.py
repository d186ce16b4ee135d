"""Stands for the Teams channel in a run on embedded parts: a local HTTP server that records what it takes."""

from __future__ import annotations

import http.server
import json
import secrets
import threading
from typing import Any


class TeamsServer(http.server.ThreadingHTTPServer):
    """Takes messages, after answering 500 to the first ``errors`` of them."""

    daemon_threads = True

    def __init__(self, errors: int = 0) -> None:
        self.errors = errors
        self.messages: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/teams?sig={secrets.token_hex(8)}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def taken(self, word: str) -> int:
        """How many taken messages begin their headline with ``word``."""
        return sum(m["attachments"][0]["content"]["body"][0]["text"].startswith(word) for m in self.messages)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: TeamsServer

    def do_POST(self) -> None:
        """Take one message."""
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        broken = self.server.errors > 0
        self.server.errors -= broken
        if not broken:
            self.server.messages.append(message)
        self.send_response(500 if broken else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name is http.server's
        """Say nothing."""
