"""The control plane over HTTP: the tutorial's endpoints, Fabric's published shapes, long-running operations.

Whatever takes time answers 202 with ``Location`` and ``Retry-After`` and goes on in a thread; ``/v1/operations/{id}`` says how it stands.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import httpx
import msgspec

from pytest_mlgates.endpoint import canary, definition, fabric
from pytest_mlgates.endpoint.app import Receive, Scope, Send, bearer_is
from pytest_mlgates.endpoint.manager import EndpointManager, ManagedEndpoint
from pytest_mlgates.endpoint.schema import BadRequest
from pytest_mlgates.errors import MlgatesError, nearest

log = logging.getLogger("pytest_mlgates.endpoint")

_MAX_BODY = 1_048_576
_KEPT_OPERATIONS = 1000
_WATCH_EVERY_S = 1.0
_CODES = {
    400: "InvalidJson",
    401: "Unauthorized",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    413: "RequestTooLarge",
}

Answer = tuple[int, Any, dict[str, str]]


class Operations:
    """Long-running operations, by id."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="operation")
        self._known: dict[str, dict[str, Any]] = {}

    def start(self, work: Callable[[], Any]) -> Answer:
        """Begin ``work`` in a thread and answer 202."""
        identifier = str(uuid.uuid4())
        now = _now()
        self._known[identifier] = {"status": "Running", "createdTimeUtc": now, "lastUpdatedTimeUtc": now, "percentComplete": 0}
        while len(self._known) > _KEPT_OPERATIONS:
            self._known.pop(next(iter(self._known)))
        self._threads.submit(self._run, identifier, work)
        return 202, None, {"location": f"/v1/operations/{identifier}", "x-ms-operation-id": identifier, "retry-after": "1"}

    def get(self, identifier: str) -> dict[str, Any]:
        """How an operation stands. Raises BadRequest (404)."""
        if identifier not in self._known:
            raise BadRequest(f"no operation {identifier!r}", status=404)
        return self._known[identifier]

    def _run(self, identifier: str, work: Callable[[], Any]) -> None:
        state = self._known[identifier]
        try:
            work()
            outcome: dict[str, Any] = {"status": "Succeeded", "percentComplete": 100}
        except (MlgatesError, BadRequest) as error:
            outcome = {"status": "Failed", "error": {"errorCode": "OperationFailed", "message": str(error)}}
        except Exception:
            log.exception("operation %s", identifier)
            outcome = {"status": "Failed", "error": {"errorCode": "InternalError", "message": "see the server's log"}}
        state |= {**outcome, "lastUpdatedTimeUtc": _now()}


class RateLimit:
    """At most ``per_minute`` requests a minute, in a bucket; 429 says how long to wait."""

    def __init__(self, per_minute: float) -> None:
        self._per_s = per_minute / 60.0
        self._full = max(per_minute / 6.0, 1.0)
        self._left = self._full
        self._seen = time.monotonic()

    def wait_s(self) -> float:
        """Seconds to wait; 0: take one and go on."""
        now = time.monotonic()
        self._left = min(self._full, self._left + (now - self._seen) * self._per_s)
        self._seen = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._per_s


class ControlApp:
    """The control plane's ASGI application.

    Parameters
    ----------
    manager
        The endpoints.
    token
        Bearer token that every request needs; empty: none.
    per_minute
        Control requests a minute (scoring through Fabric's paths is not counted).
    """

    def __init__(self, manager: EndpointManager, *, token: str = "", per_minute: float = 600.0) -> None:
        self._manager = manager
        self._operations = Operations()
        self._token = token
        self._limit = RateLimit(per_minute)
        self._forward: httpx.AsyncClient | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            status, body, headers = await self._route(scope, receive)
        except BadRequest as error:
            status, headers = error.status, {}
            body = {"errorCode": _CODES.get(status, "InvalidInput"), "message": str(error)}
            if error.column:
                body["column"] = error.column
        except MlgatesError as error:
            status, body, headers = 422, {"errorCode": "InvalidInput", "message": str(error)}, {}
        except Exception:
            log.exception("%s %s", scope["method"], scope["path"])
            status, body, headers = 500, {"errorCode": "InternalError", "message": "see the server's log"}, {}
        content = body if isinstance(body, bytes) else (b"" if body is None else msgspec.json.encode(body))
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        raw += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content})

    async def _watch(self) -> None:
        """A server that has ended unasked is started again."""
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._manager.revive)
            except Exception:
                log.exception("endpoints not looked after; tried again")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        watching: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            loop = asyncio.get_running_loop()
            if message["type"] == "lifespan.startup":
                self._forward = httpx.AsyncClient(timeout=30.0)
                await loop.run_in_executor(None, self._manager.reopen)
                watching = loop.create_task(self._watch())
                await send({"type": "lifespan.startup.complete"})
            else:
                if watching is not None:
                    watching.cancel()
                if self._forward is not None:
                    await self._forward.aclose()
                await loop.run_in_executor(None, self._manager.stop)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _route(self, scope: Scope, receive: Receive) -> Answer:
        method, path = scope["method"], scope["path"]
        if path == "/health":
            return 200, {"status": "ok"}, {}
        headers = dict(scope["headers"])
        if not bearer_is(self._token.encode(), headers.get(b"authorization", b"")):
            raise BadRequest("a bearer token is needed: Authorization: Bearer TOKEN", status=401)
        body = await _body(receive)
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match parts:
            case ["v1", "workspaces", _, "mlmodels" | "mlModels", model, "endpoint", *rest] if rest and rest[-1] == "score":
                return await self._score(method, path, model, headers, body)
            case _ if (wait := self._limit.wait_s()) > 0:
                message = "too many control requests; wait as Retry-After says"
                return (
                    429,
                    {"errorCode": "RequestBlocked", "message": message, "isRetriable": True},
                    {"retry-after": str(int(wait) + 1)},
                )
            case ["v1", "operations", identifier] if method == "GET":
                return self._operation(identifier)
            case ["v1", "workspaces", _, "mlmodels" | "mlModels", model, "endpoints"]:
                return self._collection(method, model, body)
            case ["v1", "workspaces", _, "mlmodels" | "mlModels", model, "endpoints", name]:
                return self._one(method, model, name, body)
            case ["v1", "workspaces", _, "mlmodels" | "mlModels", model, "endpoints", name, action] if method == "POST":
                return self._action(model, name, action, body)
            case ["v1", "workspaces", _, "mlmodels" | "mlModels", model, "endpoint", *rest]:
                loop = asyncio.get_running_loop()  # it may wait for workers
                answer = await loop.run_in_executor(None, fabric.route, self._manager, method, model, rest, body)
                return self._operations.start(answer.work) if answer.work is not None else (200, answer.body, {})
            case _:
                raise BadRequest(f"no such resource: {method} {path}", status=404)

    def _operation(self, identifier: str) -> Answer:
        state = self._operations.get(identifier)
        return 200, state, {} if state["status"] in ("Succeeded", "Failed") else {"retry-after": "1"}

    def _collection(self, method: str, model: str, body: bytes) -> Answer:
        if method == "GET":
            return 200, {"value": self._manager.describe(model)}, {}
        if method != "POST":
            raise BadRequest(f"{method} is not allowed here; GET or POST", status=405)
        wanted = definition.parse(body)
        endpoint = self._manager.new(model, wanted)

        def create() -> None:
            endpoint.apply(wanted)

        status, _, headers = self._operations.start(create)
        return status, {**endpoint.describe(), "name": wanted.name, **_warnings(wanted)}, headers

    def _one(self, method: str, model: str, name: str, body: bytes) -> Answer:
        endpoint = self._manager.get(model, name)
        if method == "GET":
            return 200, endpoint.describe(), {}
        if method == "PATCH":
            if endpoint.definition is None:
                raise BadRequest("the endpoint is still being made, or its making failed; delete it in that case", status=409)
            wanted = definition.changed(endpoint.definition, body)
            status, _, headers = self._operations.start(lambda: endpoint.apply(wanted))
            return status, {**endpoint.describe(), **_warnings(wanted)}, headers
        if method == "DELETE":

            def delete() -> None:
                endpoint.delete()
                self._manager.forget(model, name)

            return self._operations.start(delete)
        raise BadRequest(f"{method} is not allowed here; GET, PATCH or DELETE", status=405)

    def _action(self, model: str, name: str, action: str, body: bytes) -> Answer:
        endpoint = self._manager.get(model, name)
        fields = _fields(body)
        if action == "rollback":
            return self._operations.start(endpoint.rollback)
        if action == "shadow":
            version = fields.get("version")
            return self._operations.start(lambda: endpoint.shadow(None if version is None else str(version)))
        if action == "canary":
            return self._operations.start(_canary(endpoint, fields))
        raise BadRequest(f"no such action: {action}; rollback, shadow or canary", status=404)

    async def _score(self, method: str, path: str, model: str, headers: Mapping[bytes, bytes], body: bytes) -> Answer:
        """Hand a Fabric scoring request to the server that serves the model's endpoint; it knows the shape itself."""
        if method != "POST":
            raise BadRequest(f"{method} is not allowed here; POST", status=405)
        endpoint = self._manager.get(model, fabric.NAME)
        if not endpoint.uri or self._forward is None:
            raise BadRequest("no version is active; activate one first", status=409)
        sent = {"content-type": "application/json"}
        if self._token:
            sent["authorization"] = f"Bearer {self._token}"
        if b"x-request-id" in headers:
            sent["x-request-id"] = headers[b"x-request-id"].decode("latin-1")
        answer = await self._forward.post(endpoint.uri.removesuffix("/score") + path, content=body, headers=sent)
        kept = {k: v for k, v in answer.headers.items() if k in ("x-request-id", "x-model-version", "retry-after")}
        return answer.status_code, answer.content, kept


class _CanaryBody(msgspec.Struct, forbid_unknown_fields=True):
    version: str
    limits: dict[str, float] = {}
    steps: tuple[float, ...] = canary.STEPS
    stepTimeoutSeconds: float = 600.0  # noqa: N815 in the style of the tutorial's names


def _canary(endpoint: ManagedEndpoint, fields: Mapping[str, Any]) -> Callable[[], None]:
    """The work that a request for a canary asks for. Raises BadRequest or EndpointError before anything is done."""
    try:
        wanted = msgspec.convert(fields, _CanaryBody)
        known = {field.name for field in dataclasses.fields(canary.CanaryLimits)}
        for name in wanted.limits.keys() - known:
            raise BadRequest(f"the canary has no limit {name!r}; {nearest(name, known)}", column="limits")
        limits = msgspec.convert(fields.get("limits", {}), canary.CanaryLimits)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the canary does not fit: {error}") from None
    canary.check_steps(wanted.steps)

    def work() -> None:
        found = endpoint.run_canary(wanted.version, limits, steps=wanted.steps, step_timeout_s=wanted.stepTimeoutSeconds)
        if found.action != "go":
            raise BadRequest(f"the canary was stopped: {found.reason}")

    return work


def _warnings(wanted: definition.Definition) -> dict[str, Any]:
    return {"warnings": [definition.SINGLE_INSTANCE]} if wanted.minInstances == 1 else {}


def _fields(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not a JSON object: {error}", status=400) from None


async def _body(receive: Receive) -> bytes:
    chunks = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the caller went away", status=400)
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > _MAX_BODY:
            raise BadRequest(f"the body is larger than {_MAX_BODY} bytes", status=413)
        if not message.get("more_body"):
            return b"".join(chunks)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
