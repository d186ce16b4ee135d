"""A lean HTTP/1.1 client on gevent sockets and httptools, for load generation: one request at a time on a kept connection.

A stock client would cost 1 to 3 ms of CPU a request and report its own queue as the server's latency. Imported only in the load
generator's own process, where gevent has patched the standard library.
"""

from __future__ import annotations

import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import httptools
from gevent import socket

_CHUNK = 65536
_QUICK = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)  # Linux has it; elsewhere this changes nothing


class ConnectionLost(OSError):
    """The peer closed or reset the connection before a whole answer came."""


class LeanConnection:
    """One kept connection to one address.

    Parameters
    ----------
    uri
        Where to post.
    headers
        Sent with every request, besides host, length and request id.
    timeout_s
        For a whole call, connecting included: an answer that trickles in byte by byte is late all the same.
    """

    def __init__(self, uri: str, headers: dict[str, str], *, timeout_s: float) -> None:
        parts = urlsplit(uri)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._timeout_s = timeout_s
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [
            f"POST {target} HTTP/1.1",
            f"host: {parts.netloc}",
            "content-type: application/json",
            "accept: application/json",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._head = ("\r\n".join(lines) + "\r\n").encode("latin-1")
        self._socket: Any = None
        self._parser: Any = None
        self._done = False
        self._keep = True
        self._chunks: list[bytes] = []
        self._raw: list[bytes] = []

    def prepared(self, body: bytes) -> bytes:
        """The bytes of a request without its id, to be made once per body."""
        return self._head + b"content-length: %d\r\n" % len(body)

    def post(self, prepared: bytes, request_id: bytes, body: bytes) -> tuple[int, bytes]:
        """Send one request and return status and body of the answer.

        Raises
        ------
        ConnectionLost
            The connection could not be made, or was closed before the answer was whole.
        TimeoutError
            The answer was not whole after ``timeout_s``.
        """
        deadline = time.monotonic() + self._timeout_s
        if self._socket is None:
            self._connect()
        self._parser = httptools.HttpResponseParser(self)
        self._done, self._keep = False, True
        self._chunks.clear()
        self._raw.clear()
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            self._socket.sendall(prepared + b"x-request-id: " + request_id + b"\r\n\r\n" + body)
            while not self._done:
                # a server that writes head and body apart waits for our acknowledgement between them, which the kernel would put off
                # for 40 ms: no time of the server's
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK, 1)
                data = self._socket.recv(_CHUNK)
                if data:
                    self._raw.append(data)
                    self._parser.feed_data(data)
                elif self._ends_with_its_connection():
                    self._done, self._keep = True, False
                else:
                    raise ConnectionLost("closed before the answer was whole")
                if not self._done:
                    self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
        except TimeoutError:
            self.close()
            raise
        except httptools.HttpParserError as error:
            self.close()
            raise ConnectionLost(f"not HTTP: {error}") from error
        except OSError as error:
            self.close()
            raise ConnectionLost(str(error)) from error
        status = self._parser.get_status_code()
        if not self._keep:
            self.close()
        return status, self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def _ends_with_its_connection(self) -> bool:
        """Whether the answer's head says no length: then the end of the connection is the end of the answer (HTTP/1.0 servers)."""
        head, end, _ = b"".join(self._raw).lower().partition(b"\r\n\r\n")
        return bool(end) and b"\r\ncontent-length:" not in head and b"\r\ntransfer-encoding:" not in head

    def close(self) -> None:
        """Close the connection; the next post opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        try:
            raw = socket.create_connection((self._host, self._port), timeout=self._timeout_s)
        except TimeoutError:
            raise
        except OSError as error:
            raise ConnectionLost(f"no connection: {error}") from error
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = ssl.create_default_context().wrap_socket(raw, server_hostname=self._host) if self._tls else raw

    # httptools calls these while it parses

    def on_body(self, data: bytes) -> None:
        """Collect the answer."""
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        """Note that the answer is whole."""
        self._done = True
        self._keep = self._parser.should_keep_alive()
