"""One HTTP/1.1 connection on httptools, for the applications of this package.

A request that the application can answer at once is answered in the call that read its last byte: no task, no queue, one write. That
was measured at a third of the CPU of the general ASGI way round it, which is still taken by what has to wait (slow models, the
control plane). What a peer may hold is limited: the size of a head and of a body, how long a request may take to arrive, how long a
kept connection may idle, how much of the answers it leaves unread.
"""

from __future__ import annotations

import asyncio
import http
import json
import logging
import math
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, Protocol
from urllib.parse import unquote

import httptools

log = logging.getLogger("pytest_mlgates.endpoint")

MAX_HEAD = 65_536
MAX_HEADERS = 100
MAX_BODY = 1_048_576
LINGER_S = 2.0
KEEP_ALIVE_S = 75.0  # longer than clients' pools keep a connection, so that it is they who close

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]
Now = Callable[[str, str, Headers, bytes], "Answer | Awaitable[Answer]"]

_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in http.HTTPStatus}


class Host(Protocol):
    """What a connection needs of its worker."""

    asgi: Any
    loop: asyncio.AbstractEventLoop
    connections: dict[Connection, None]
    request_timeout_s: float
    max_connections: int


class _Request:
    """A request that has arrived whole."""

    __slots__ = ("body", "headers", "keep", "method", "url", "version")

    def __init__(self, method: str, url: bytes, version: str, headers: Headers, body: bytes, *, keep: bool) -> None:
        self.method, self.url, self.version = method, url, version
        self.headers, self.body, self.keep = headers, body, keep


class Connection(asyncio.Protocol):
    """See the module.

    The application is called as ``app.answer(method, path, headers, body)`` where it has such a method (an answer, or an awaitable of
    one), else by ASGI.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._now: Now | None = getattr(host.asgi, "answer", None)
        self._max_body = int(getattr(host.asgi, "max_body", MAX_BODY))
        self._count_refused: Callable[[int], None] | None = getattr(host.asgi, "refused", None)
        self._transport: Any = None
        self._parser: Any = None
        self._ready: deque[_Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._arriving = self._began = self._reading_body = self._ended = self._unread = False
        self._head = self._size = 0
        self._url = b""
        self._headers: Headers = []
        self._chunks: list[bytes] = []
        self.deadline = math.inf

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, at the cost of the oldest one where there are too many."""
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        connections = self._host.connections
        if len(connections) >= self._host.max_connections:
            next(iter(connections)).give_up()
        connections[self] = None
        self.deadline = self._host.loop.time() + self._host.request_timeout_s

    def data_received(self, data: bytes) -> None:
        """Parse; serve what is whole."""
        if self._ended:
            return
        if not self._reading_body:
            self._head += len(data)
            if b"pgrade" in data:
                data = _not_upgrading(data)
        self._began = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._ended = True  # no upgrades here: the request is answered as it is, then the connection ends
            if self._ready:
                self._ready[-1].keep = False
        except httptools.HttpParserError as error:
            self._refuse(400, f"not HTTP: {error}")
        if self._arriving and not self._reading_body and self._head > MAX_HEAD:
            self._refuse(431, f"the head of the request is larger than {MAX_HEAD} bytes")
        self._serve()
        if self._began and self._task is None and not self._ended:  # more bytes of the same request earn it no more time
            self._set_deadline()

    def pause_writing(self) -> None:
        """The peer does not read its answers: serve it nothing more until it does."""
        self._unread = True
        self._transport.pause_reading()
        self._set_deadline()

    def resume_writing(self) -> None:
        """Go on."""
        self._unread = False
        self._transport.resume_reading()
        self._set_deadline()
        self._serve()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; what is under way ends unheard."""
        del exc
        self._ended = True
        self._ready.clear()
        self._host.connections.pop(self, None)

    # httptools calls these

    def on_message_begin(self) -> None:
        """A request begins."""
        self._arriving, self._began, self._reading_body = True, True, False
        self._size = 0
        self._url = b""
        self._headers = []
        self._chunks = []

    def on_url(self, url: bytes) -> None:
        """The target, perhaps in parts."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Refuse what is too large before its body comes; tell a peer that waits for it to send on."""
        self._reading_body = True
        self._head = 0
        if len(self._headers) > MAX_HEADERS:
            self._refuse(431, f"more than {MAX_HEADERS} headers")
            return
        for name, value in self._headers:
            if name == b"content-length" and int(value) > self._max_body:
                self._refuse(413, f"the body is larger than {self._max_body} bytes")
            elif name == b"expect" and value.lower() == b"100-continue" and not self._ended:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        """A part of the body."""
        self._size += len(chunk)
        if self._size > self._max_body:
            self._refuse(413, f"the body is larger than {self._max_body} bytes")
        elif not self._ended:
            self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._arriving = self._reading_body = False
        self._head = 0
        if self._ended:
            return
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        parser = self._parser
        method, version = parser.get_method().decode("latin-1"), parser.get_http_version()
        self._ready.append(_Request(method, self._url, version, self._headers, body, keep=parser.should_keep_alive()))

    # the worker calls these

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return self._task is None and not self._ready and not self._arriving

    def give_up(self) -> None:
        """Close the connection; a request that is only half there is lost, answers that are written are not."""
        self._ended = True
        if self._transport is not None:
            if self._unread:
                self._transport.abort()
            else:
                self._transport.close()

    def _serve(self) -> None:
        """Answer the requests that are whole, in their order, as far as that needs no waiting."""
        while self._ready and self._task is None and not self._unread:
            request = self._ready.popleft()
            found: Answer | Awaitable[Answer]
            if self._now is None:
                found = self._by_asgi(request)
            else:
                found = self._now(request.method, _path(request.url), request.headers, request.body)
            if isinstance(found, tuple):
                self._write(request, found)
                continue
            self.deadline = math.inf
            self._transport.pause_reading()
            self._task = self._host.loop.create_task(self._later(request, found))

    async def _later(self, request: _Request, found: Awaitable[Answer]) -> None:
        try:
            answer = await found
        except Exception:
            log.exception("%s %s", request.method, request.url)
            answer = (500, [(b"content-type", b"application/json")], b'{"errorCode":"InternalError","message":"see the log"}')
        self._task = None
        if self._transport.is_closing():
            return
        self._write(request, answer)
        if not self._unread:
            self._transport.resume_reading()
        self._serve()

    def _write(self, request: _Request, answer: Answer) -> None:
        status, headers, body = answer
        parts = [_LINES[status], _date()]
        parts += [b"%s: %s\r\n" % header for header in headers]
        parts.append(b"content-length: %d\r\n" % len(body))
        if not request.keep:
            parts.append(b"connection: close\r\n")
        elif request.version == "1.0":
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")
        if request.method != "HEAD":
            parts.append(body)
        self._transport.write(b"".join(parts))
        if request.keep:
            self._set_deadline()
        else:
            self.give_up()

    def _refuse(self, status: int, message: str) -> None:
        """Answer what is no request, or too large a one, and close: what follows on this connection cannot be trusted."""
        if self._ended:
            return
        self._ended = True
        self._ready.clear()
        if self._count_refused is not None:
            self._count_refused(status)
        code = {413: "RequestTooLarge", 431: "HeadersTooLarge"}.get(status, "InvalidRequest")
        body = json.dumps({"errorCode": code, "message": message}).encode()
        head = _LINES[status] + _date() + b"content-type: application/json\r\nconnection: close\r\n"
        self._transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        # a close now would reset a peer that is still sending, and lose it the answer: what it sends is let pass for a moment
        self._transport.write_eof()
        self.deadline = self._host.loop.time() + LINGER_S

    def _set_deadline(self) -> None:
        limit = self._host.request_timeout_s if self._arriving or self._unread else KEEP_ALIVE_S
        self.deadline = self._host.loop.time() + limit

    async def _by_asgi(self, request: _Request) -> Answer:
        path, _, query = request.url.partition(b"?")
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": request.version, "scheme": "http",
            "method": request.method, "path": _path(request.url), "raw_path": path, "query_string": query, "root_path": "",
            "headers": request.headers, "client": self._transport.get_extra_info("peername"),
            "server": self._transport.get_extra_info("sockname"),
        }  # fmt: skip
        given: list[dict[str, Any]] = [{"type": "http.request", "body": request.body, "more_body": False}]
        status, headers, chunks = 500, [], []

        async def receive() -> dict[str, Any]:
            return given.pop() if given else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], [h for h in message["headers"] if h[0] != b"content-length"]
            else:
                chunks.append(message.get("body", b""))

        await self._host.asgi(scope, receive, send)
        return status, headers, b"".join(chunks)


def _not_upgrading(data: bytes) -> bytes:
    """A head without its offer of another protocol, which a server may pass over: the parser would end at it, without the body.

    Java's own client makes that offer with every first request.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-passed-over:", head) + end + rest


_clock: tuple[float, bytes] = (0.0, b"")


def _date() -> bytes:
    """The Date header, made once a second."""
    global _clock  # noqa: PLW0603 one per process
    now = time.monotonic()
    if now - _clock[0] >= 1.0 or not _clock[1]:
        _clock = (now, f"date: {formatdate(usegmt=True)}\r\n".encode())
    return _clock[1]


def _path(url: bytes) -> str:
    """The decoded path of a request's target."""
    if url == b"/score":
        return "/score"
    if not url.startswith(b"/"):  # absolute form, as proxies send it
        try:
            url = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            return ""
    return unquote(url.partition(b"?")[0].decode("latin-1"))
