"""The ASGI application of one worker: scoring, health, metrics, the model's schema, the server's own OpenAPI.

Written against ASGI itself: a framework's routing and validation cost several times the scoring of one row.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
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

_ID = re.compile(rb"^[A-Za-z0-9._:/+=@-]{1,128}$")
_FABRIC_SCORE = re.compile(r"^/v1/workspaces/[^/]+/ml[mM]odels/[^/]+/endpoint(?:/versions/(?P<version>[^/]+))?/score$")
_JSON = (b"content-type", b"application/json")
_CHALLENGES = {401: ((b"www-authenticate", b"Bearer"),), 405: ((b"allow", b"POST"),)}
_ROWS_OFF_LOOP = 64
_ERROR_CODES = {
    400: "InvalidJson", 401: "Unauthorized", 404: "NotFound", 405: "MethodNotAllowed", 408: "RequestTimeout", 413: "RequestTooLarge",
    422: "InvalidInput", 500: "InternalError", 503: "NotReady",
}  # fmt: skip


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
        self._expected = f"Bearer {token}".encode() if token else b""
        self._max_body = max_body
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
        path, method = scope["path"], scope["method"]
        request_id = ""
        authorization = b""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _ID.match(value):
                request_id = value.decode("ascii")
            elif name == b"authorization":
                authorization = value
        if not request_id:
            request_id = f"{self._prefix}-{next(self._numbers):x}"
        fabric = _FABRIC_SCORE.match(path) if path.startswith("/v1/") else None
        if path == "/score" or fabric:
            await self._scoring(method, fabric, authorization, request_id, receive, send)
            return
        status, body, kind = self._page(method, path, authorization, request_id)
        await _answer(send, status, body, request_id, ((b"content-type", kind),))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._service.start()
                    if self._log is not None:
                        self._log.start()
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

    def _allowed(self, authorization: bytes) -> bool:
        return not self._expected or hmac.compare_digest(authorization, self._expected)

    def _admit(self, method: str, authorization: bytes) -> None:
        if method != "POST":
            raise BadRequest(f"{method} is not allowed here; POST rows to score", status=405)
        if not self._allowed(authorization):
            raise BadRequest("a bearer token is needed: Authorization: Bearer TOKEN", status=401)

    async def _scoring(
        self, method: str, fabric: re.Match[str] | None, authorization: bytes, request_id: str, receive: Receive, send: Send
    ) -> None:
        start = time.perf_counter()
        version = ""
        extra: tuple[tuple[bytes, bytes], ...] = (_JSON,)
        try:
            self._admit(method, authorization)
            body = await self._body(receive)
            scorer = self._service.choose(request_id, fabric["version"] if fabric else None)
            version = scorer.version
            rows = scorer.schema.parse(body)
            predictions = await self._predict(scorer, rows)
            latency_ms = (time.perf_counter() - start) * 1e3
            answer = self._shape(scorer, rows, predictions, latency_ms)
            status = 200
            self._record(scorer, rows, predictions, latency_ms, request_id)
        except BadRequest as error:
            status = error.status
            extra = (_JSON, *_CHALLENGES.get(status, ()))
            if isinstance(error, ModelRefused):
                self._service.refused(scorer)
            answer = self._encode(ErrorAnswer(_ERROR_CODES[status], str(error), request_id, error.column, error.row))
        except NotReady as error:
            status, extra = 503, (_JSON, (b"retry-after", b"1"))
            answer = self._encode(ErrorAnswer(_ERROR_CODES[503], str(error), request_id))
        except _Disconnected:
            return
        except Exception:
            log.exception("request %s", request_id)
            status = 500
            answer = self._encode(
                ErrorAnswer(_ERROR_CODES[500], "the server made a mistake; its log has the request id", request_id)
            )
        self._metrics.answered(status, (time.perf_counter() - start) * 1e3)
        if version:
            extra = (*extra, (b"x-model-version", version.encode()))
        await _answer(send, status, answer, request_id, extra)

    async def _predict(self, scorer: Scorer, rows: Rows) -> list[Any]:
        if scorer.slow or len(rows.values) > _ROWS_OFF_LOOP:
            return await asyncio.get_running_loop().run_in_executor(self._threads, scorer.score, rows)
        return scorer.score(rows)

    def _shape(self, scorer: Scorer, rows: Rows, predictions: list[Any], latency_ms: float) -> bytes:
        if rows.fabric:
            listed = [p if isinstance(p, list) else [p] for p in predictions]
            return self._encode(FabricAnswer("dataframe", rows.orientation, listed))
        return self._encode(ScoreAnswer(predictions, scorer.name, scorer.version, round(latency_ms, 3)))

    def _record(self, scorer: Scorer, rows: Rows, predictions: list[Any], latency_ms: float, request_id: str) -> None:
        self._metrics.add("rows", len(predictions))
        self._service.observe(scorer, rows, predictions, latency_ms)
        if self._log is not None:
            self._log.put(
                (request_id, time.time(), scorer.name, scorer.version, rows.columns, rows.values, predictions, latency_ms)
            )

    async def _body(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Disconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max_body:
                raise BadRequest(f"the body is larger than {self._max_body} bytes", status=413)
            chunks.append(chunk)
            if not message.get("more_body"):
                return b"".join(chunks) if len(chunks) > 1 else chunk

    def _page(self, method: str, path: str, authorization: bytes, request_id: str) -> tuple[int, bytes, bytes]:
        """Everything but scoring: status, body, content type."""
        json_type = b"application/json"
        pages = {
            "/health": self._health,
            "/metrics": self._metrics_text,
            "/schema": self._schema,
            "/openapi.json": self._openapi,
        }
        page = pages.get(path)
        if page is None:
            message = "no such page; POST /score, GET /health, /metrics, /schema, /openapi.json"
            return 404, self._encode(ErrorAnswer(_ERROR_CODES[404], message, request_id)), json_type
        if method not in ("GET", "HEAD"):
            return (
                405,
                self._encode(ErrorAnswer(_ERROR_CODES[405], f"{method} is not allowed here; GET it", request_id)),
                json_type,
            )
        if path != "/health" and not self._allowed(authorization):
            message = "a bearer token is needed: Authorization: Bearer TOKEN"
            return 401, self._encode(ErrorAnswer(_ERROR_CODES[401], message, request_id)), json_type
        status, body = page()
        return status, body, b"text/plain; version=0.0.4" if path == "/metrics" else json_type

    def _health(self) -> tuple[int, bytes]:
        state = self._service.health()
        return (200 if state["status"] == "ok" else 503), self._encode(state)

    def _metrics_text(self) -> tuple[int, bytes]:
        return 200, self._metrics.text(f'model="{self._service.model}"').encode()

    def _schema(self) -> tuple[int, bytes]:
        return 200, self._encode(self._service.schema())

    def _openapi(self) -> tuple[int, bytes]:
        return 200, self._encode(openapi.document(self._service.schema()))


class _Disconnected(Exception):
    pass


async def _answer(send: Send, status: int, body: bytes, request_id: str, extra: tuple[tuple[bytes, bytes], ...]) -> None:
    headers = [*extra, (b"content-length", b"%d" % len(body)), (b"x-request-id", request_id.encode("ascii"))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
