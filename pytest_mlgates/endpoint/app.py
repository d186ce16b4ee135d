"""The ASGI application of one worker: scoring, health, metrics, the model's schema, the server's own OpenAPI.

Written against ASGI itself: a framework's routing and validation cost several times the scoring of one row.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from pytest_mlgates.endpoint import openapi
from pytest_mlgates.endpoint.metrics import Metrics
from pytest_mlgates.endpoint.predictionlog import PredictionLog
from pytest_mlgates.endpoint.schema import BadRequest, ErrorAnswer, FabricAnswer, ModelRefused, Rows, ScoreAnswer
from pytest_mlgates.endpoint.scorer import Scorer
from pytest_mlgates.endpoint.service import NotReady, ScoringService

log = logging.getLogger("pytest_mlgates.endpoint")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]

_ID = re.compile(rb"^[A-Za-z0-9._:/+=@-]{1,128}\Z")
_FABRIC_SCORE = re.compile(r"^/v1/workspaces/[^/]+/ml[mM]odels/[^/]+/endpoint(?:/versions/(?P<version>[^/]+))?/score$")
_JSON = (b"content-type", b"application/json")
_CHALLENGES = {401: ((b"www-authenticate", b"Bearer"),), 405: ((b"allow", b"POST"),)}
_ROWS_OFF_LOOP = 64
_ERROR_CODES = {
    400: "InvalidJson", 401: "Unauthorized", 404: "NotFound", 405: "MethodNotAllowed", 408: "RequestTimeout", 413: "RequestTooLarge",
    422: "InvalidInput", 500: "InternalError", 503: "NotReady",
}  # fmt: skip


class _Call:
    """What is known of a request before its body is read, and which version it fell to."""

    __slots__ = ("authorization", "pinned", "request_id", "scorer", "scoring", "start")

    def __init__(self, request_id: str, authorization: bytes, pinned: str | None, *, scoring: bool) -> None:
        self.start = time.perf_counter()
        self.request_id, self.authorization, self.pinned, self.scoring = request_id, authorization, pinned, scoring
        self.scorer: Scorer | None = None


class EndpointApp:
    """One worker's application.

    Parameters
    ----------
    service
        Holds the versions in service.
    metrics
        Shared counters.
    prediction_log
        Where predictions go; ``None``: nowhere.
    token
        Bearer token that everything but ``/health`` needs; empty: none.
    max_body
        Bytes of a request body above which it is refused with 413.
    """

    def __init__(
        self,
        service: ScoringService,
        metrics: Metrics,
        *,
        prediction_log: PredictionLog | None = None,
        token: str = "",
        max_body: int = 1_048_576,
    ) -> None:
        self._service = service
        self._metrics = metrics
        self._log = prediction_log
        if prediction_log is not None:
            service.on_shadow = functools.partial(_put, prediction_log)
        self._token = token.encode()
        self.max_body = max_body
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="score")
        self._encode = msgspec.json.Encoder().encode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (or run the worker's start and stop)."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        body: bytes | None = b""
        if scope["method"] == "POST":
            try:
                body = await self._body(receive)
            except _Disconnected:
                return
        found = self.answer(scope["method"], scope["path"], scope["headers"], body)
        status, headers, content = found if isinstance(found, tuple) else await found
        headers = [*headers, (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def answer(
        self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes | None
    ) -> Answer | Awaitable[Answer]:
        """Answer one request: at once, or as an awaitable where scoring it takes long.

        Header names are in lower case; ``body`` is ``None`` where it was too large to be read.
        """
        call = self._identified(path, headers)
        if not call.scoring:
            status, content, kind = self._page(method, path, call)
            extra = ((b"allow", b"GET, HEAD"),) if status == 405 else _CHALLENGES.get(status, ())
            return status, [(b"content-type", kind), (b"x-request-id", call.request_id.encode("ascii")), *extra], content
        try:
            content = self._admitted(method, call.authorization, body)
            scorer = call.scorer = self._service.choose(call.request_id, call.pinned)
            rows = scorer.schema.parse(content)
            if scorer.slow or len(rows.values) > _ROWS_OFF_LOOP:
                return self._answer_later(call, scorer, rows)
            return self._answered(call, scorer, rows, scorer.score(rows))
        except Exception as error:  # noqa: BLE001 each kind has its status; an unknown one is logged and 500
            return self._refused(call, error)

    def _identified(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> _Call:
        request_id = ""
        authorization = b""
        for name, value in headers:
            if name == b"x-request-id" and _ID.match(value):
                request_id = value.decode("ascii")
            elif name == b"authorization":
                authorization = value
        fabric = _FABRIC_SCORE.match(path) if path.startswith("/v1/") else None
        scoring = path == "/score" or fabric is not None
        pinned = fabric["version"] if fabric else None
        return _Call(request_id or f"{self._prefix}-{next(self._numbers):x}", authorization, pinned, scoring=scoring)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    if self._log is not None:
                        self._log.start()
                    await self._service.start()  # last: it says which generation this worker serves
                except Exception as error:  # noqa: BLE001 whatever it is, the supervisor must hear of it
                    await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._service.stop()
                if self._log is not None:
                    await asyncio.get_running_loop().run_in_executor(None, self._log.stop)
                await send({"type": "lifespan.shutdown.complete"})
                return

    def refused(self, status: int) -> None:
        """Count what the connection refused before it was a request."""
        self._metrics.answered(status, 0.0)

    def _allowed(self, authorization: bytes) -> bool:
        return bearer_is(self._token, authorization)

    def _admitted(self, method: str, authorization: bytes, body: bytes | None) -> bytes:
        if method != "POST":
            raise BadRequest(f"{method} is not allowed here; POST rows to score", status=405)
        if not self._allowed(authorization):
            raise BadRequest("a bearer token is needed: Authorization: Bearer TOKEN", status=401)
        if body is None:
            raise BadRequest(f"the body is larger than {self.max_body} bytes", status=413)
        return body

    async def _answer_later(self, call: _Call, scorer: Scorer, rows: Rows) -> Answer:
        """Score in a thread of its own, so that the other requests go on."""
        try:
            predictions = await asyncio.get_running_loop().run_in_executor(self._threads, scorer.score, rows)
            return self._answered(call, scorer, rows, predictions)
        except Exception as error:  # noqa: BLE001 as in `answer`
            return self._refused(call, error)

    def _answered(self, call: _Call, scorer: Scorer, rows: Rows, predictions: list[Any]) -> Answer:
        latency_ms = (time.perf_counter() - call.start) * 1e3
        content = self._shape(scorer, rows, predictions, latency_ms)
        self._record(scorer, rows, predictions, latency_ms, call.request_id)
        return self._done(call, 200, content)

    def _refused(self, call: _Call, error: Exception) -> Answer:
        if isinstance(error, ModelRefused) and call.scorer is not None:
            self._service.refused(call.scorer)
        if isinstance(error, BadRequest):
            answer = ErrorAnswer(_ERROR_CODES[error.status], str(error), call.request_id, error.column, error.row)
            return self._done(call, error.status, self._encode(answer), _CHALLENGES.get(error.status, ()))
        if isinstance(error, NotReady):
            answer = ErrorAnswer(_ERROR_CODES[503], str(error), call.request_id)
            return self._done(call, 503, self._encode(answer), ((b"retry-after", b"1"),))
        log.error("request %s", call.request_id, exc_info=error)
        answer = ErrorAnswer(_ERROR_CODES[500], "the server made a mistake; its log has the request id", call.request_id)
        return self._done(call, 500, self._encode(answer))

    def _done(self, call: _Call, status: int, content: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
        self._metrics.answered(status, (time.perf_counter() - call.start) * 1e3)
        headers = [_JSON, (b"x-request-id", call.request_id.encode("ascii")), *extra]
        if call.scorer is not None:
            headers.append((b"x-model-version", call.scorer.version.encode()))
        return status, headers, content

    def _shape(self, scorer: Scorer, rows: Rows, predictions: list[Any], latency_ms: float) -> bytes:
        if rows.fabric:
            listed = [p if isinstance(p, list) else [p] for p in predictions]
            return self._encode(FabricAnswer("dataframe", rows.orientation, listed))
        return self._encode(ScoreAnswer(predictions, scorer.name, scorer.version, round(latency_ms, 3)))

    def _record(self, scorer: Scorer, rows: Rows, predictions: list[Any], latency_ms: float, request_id: str) -> None:
        self._metrics.add("rows", len(predictions))
        self._service.observe(scorer, rows, predictions, latency_ms, request_id)
        if self._log is not None:
            _put(self._log, scorer, rows, predictions, latency_ms, request_id)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body, ``None`` for one that is too large."""
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Disconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self.max_body:
                return None
            chunks.append(chunk)
            if not message.get("more_body"):
                return b"".join(chunks) if len(chunks) > 1 else chunk

    def _page(self, method: str, path: str, call: _Call) -> tuple[int, bytes, bytes]:
        """Everything but scoring: status, body, content type."""
        pages = {
            "/health": self._health,
            "/metrics": self._metrics_text,
            "/schema": self._schema,
            "/openapi.json": self._openapi,
        }
        page = pages.get(path)
        if page is None:
            return self._no_page(404, "no such page; POST /score, GET /health, /metrics, /schema, /openapi.json", call)
        if method not in ("GET", "HEAD"):
            return self._no_page(405, f"{method} is not allowed here; GET it", call)
        if path != "/health" and not self._allowed(call.authorization):
            return self._no_page(401, "a bearer token is needed: Authorization: Bearer TOKEN", call)
        status, body = page()
        return status, body, b"text/plain; version=0.0.4" if path == "/metrics" else b"application/json"

    def _no_page(self, status: int, message: str, call: _Call) -> tuple[int, bytes, bytes]:
        return status, self._encode(ErrorAnswer(_ERROR_CODES[status], message, call.request_id)), b"application/json"

    def _health(self) -> tuple[int, bytes]:
        state = self._service.health()
        return (200 if state["status"] == "ok" else 503), self._encode(state)

    def _metrics_text(self) -> tuple[int, bytes]:
        return 200, self._metrics.text(self._service.model).encode()

    def _schema(self) -> tuple[int, bytes]:
        return 200, self._encode(self._service.schema())

    def _openapi(self) -> tuple[int, bytes]:
        return 200, self._encode(openapi.document(self._service.schema()))


def bearer_is(token: bytes, authorization: bytes) -> bool:
    """Whether an Authorization header carries this token; an empty token asks for none."""
    scheme, _, given = authorization.partition(b" ")
    return not token or (scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token))


def _put(log: PredictionLog, scorer: Scorer, rows: Rows, predictions: list[Any], latency_ms: float, request_id: str) -> None:
    log.put((request_id, time.time(), scorer.name, scorer.version, rows.columns, rows.values, predictions, latency_ms))


class _Disconnected(Exception):
    pass
