"""The webhook receiver: a small ASGI application that takes the common alert schema and queues retrainings.

==================  ====================================================================================
``POST /alerts``    202 and a status URL; 401 not signed as it must be, 408 too slow, 409 replayed, 413 too large,
                    422 not the common alert schema, or of a model that the settings do not know
``GET /alerts/ID``  how the job stands; 404
``GET /health``     200
==================  ====================================================================================

What is refused is refused in this order: size, signature, replay, shape. Only a delivery that is signed is looked into.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_mlgates.alerts.inbox import Inbox, Job, Replayed, job_key
from pytest_mlgates.alerts.messages import clean
from pytest_mlgates.alerts.signing import SignatureRefused, verify
from pytest_mlgates.config import COOLDOWN_DAYS
from pytest_mlgates.errors import ConfigError

if TYPE_CHECKING:
    from pytest_mlgates.alerts.runner import Runner
    from pytest_mlgates.config import Settings

log = logging.getLogger("mlgates.alerts")
CONCEPT_REASON = "concept_alert"
"""Concept drift: fresh labels may teach the wrong thing, so a person looks first, whatever the model's mode."""
MAX_BODY = 256 * 1024
"""Bytes of a delivery; Azure's own are a few kB."""
DRAINED = 16 * MAX_BODY
"""Bytes that are read of a delivery that is too large before it is told so."""
BODY_S = 30.0
"""Seconds within which a delivery's body has to be there: who sends a byte a minute is nobody's alert."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Text = Annotated[str, Field(min_length=1, max_length=512)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Essentials(_Shape):
    """The fields of ``data.essentials`` that decide anything here; the rest may be anything."""

    alertId: _Text  # noqa: N815 Azure's spelling
    alertRule: _Text  # noqa: N815
    severity: Literal["Sev0", "Sev1", "Sev2", "Sev3", "Sev4"]
    monitorCondition: Literal["Fired", "Resolved"]  # noqa: N815


class AlertData(_Shape):
    """``data``."""

    essentials: Essentials
    alertContext: dict[str, Any] | None = None  # noqa: N815
    customProperties: dict[str, Any] | None = None  # noqa: N815


class CommonAlert(_Shape):
    """Azure's common alert schema, as far as it is read."""

    schemaId: Literal["azureMonitorCommonAlertSchema"]  # noqa: N815
    data: AlertData

    def custom(self, name: str) -> str:
        """A custom property, empty where it is not there."""
        return str((self.data.customProperties or {}).get(name) or "")

    def model(self) -> str:
        """The model the alert is of: our custom property, else the dimension ``ModelName`` of the condition."""
        if self.custom("model_name"):
            return self.custom("model_name")
        condition = (self.data.alertContext or {}).get("condition")
        parts = condition.get("allOf") if isinstance(condition, dict) else None
        for part in parts if isinstance(parts, list) else []:
            dimensions = part.get("dimensions") if isinstance(part, dict) else None
            for dimension in dimensions if isinstance(dimensions, list) else []:
                if isinstance(dimension, dict) and dimension.get("name") in ("ModelName", "model_name"):
                    return str(dimension.get("value") or "")
        return ""


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


class Receiver:
    """The ASGI application. ``secret`` signs deliveries; ``clock`` is Unix time."""

    def __init__(
        self,
        inbox: Inbox,
        settings: Settings,
        *,
        secret: str,
        runner: Runner | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not secret:
            raise ConfigError("the receiver needs a signing key: set MLGATES_WEBHOOK_SECRET to a long random text")
        self._inbox = inbox
        self._settings = settings
        self._secret = secret
        self._runner = runner
        self._clock = clock
        # SQLite serialises writers anyway; a few threads keep the event loop free for those who are refused
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="mlgates-inbox")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection's event stream, as ASGI 3 says."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            status, answer, headers = await self._answer(scope, receive)
        except _Refused as refusal:
            status, answer, headers = refusal.status, {"error": refusal.reason}, []
            log.warning("refused with %d: %s", refusal.status, refusal.reason)
        except Exception:
            log.exception("a delivery could not be stored")
            status, answer, headers = 500, {"error": "the delivery could not be stored; send it again"}, []
        body = json.dumps(answer).encode()
        fixed = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status in (408, 413):
            fixed.append((b"connection", b"close"))  # the rest of the body was not read
        await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
        await send({"type": "http.response.body", "body": body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                if self._runner is not None:
                    self._runner.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._runner is not None:
                    await asyncio.to_thread(self._runner.stop)
                self._pool.shutdown(wait=True)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, Any], list[tuple[bytes, bytes]]]:
        method, path = scope["method"], scope["path"]
        if path == "/health":
            return 200, {"status": "ok"}, []
        if path == "/alerts":
            if method != "POST":
                raise _Refused(405, "POST only")
            return await self._post(scope, receive)
        if path.startswith("/alerts/") and method == "GET":
            job = await self._in_pool(self._inbox.get, path.removeprefix("/alerts/"))
            if job is not None:
                return 200, job.to_dict(), []
        raise _Refused(404, "no such page; deliveries go to POST /alerts")

    async def _post(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, Any], list[tuple[bytes, bytes]]]:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        try:
            async with asyncio.timeout(BODY_S):
                body = await _read_body(headers, receive)
        except TimeoutError:
            raise _Refused(408, f"the body was not there within {BODY_S:g} s") from None
        now = self._clock()
        try:
            used = verify(self._secret, headers, body, now=now)
        except SignatureRefused as refusal:
            raise _Refused(401, str(refusal)) from None
        if await self._in_pool(self._inbox.used, used):
            raise _Refused(409, "this delivery was already taken")
        alert = _parse(body)
        try:
            job, made = await self._in_pool(self._take, alert, used, now)
        except Replayed as replay:
            raise _Refused(409, str(replay)) from None
        if self._runner is not None:
            self._runner.wake()
        url = f"/alerts/{urllib.parse.quote(job_key(alert.data.essentials.alertId))}"
        answer = {"status_url": url, "state": job.state if job else "noted", "duplicate": not made}
        return 202, answer, [(b"location", url.encode())]

    async def _in_pool(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    def _take(self, alert: CommonAlert, used: str, now: float) -> tuple[Job | None, bool]:
        essentials = alert.data.essentials
        key = job_key(essentials.alertId)
        if essentials.monitorCondition == "Resolved":
            return self._inbox.take_resolved(key, signature=used, now=now), False
        model = alert.model()
        state, note = self._first_state(alert, model, now)
        reason = alert.custom("trigger_reason") or "drift_alert"
        job = Job(
            key=key,
            alert_id=clean(essentials.alertId, 512),
            model=model,
            rule=clean(essentials.alertRule, 512),
            severity=essentials.severity,
            reason=clean(reason, 80),
            state=state,
            received=now,
            updated=now,
            note=note,
        )
        return self._inbox.take(job, signature=used, now=now)

    def _first_state(self, alert: CommonAlert, model: str, now: float) -> tuple[str, str]:
        """Whether the alert starts a retraining: an evaluator of ours has said so, for others the cool-down is kept here."""
        wanted = alert.custom("retrain")
        if alert.custom("about") == "test" or wanted == "none":
            return "noted", "a message only"
        if not model:
            raise _Refused(422, "the alert names no model: customProperties.model_name, or a dimension ModelName")
        try:
            retrain = self._settings.model(model).retrain
        except ConfigError:
            raise _Refused(422, f"the settings know no model {clean(model, 120)!r}") from None
        if wanted == "suppressed":
            return "suppressed", "cool-down"
        if not wanted:
            kind = alert.custom("trigger_reason").removesuffix("_alert")
            days = COOLDOWN_DAYS.get(kind, COOLDOWN_DAYS["drift"])
            last = self._inbox.last_started(model)
            if last is not None and now < last + days * 86_400:
                return "suppressed", f"cool-down of {days:g} days"
        if retrain.mode == "manual" or alert.custom("trigger_reason") == CONCEPT_REASON:
            return "waiting", "waits for mlgates retrain approve"
        return "queued", ""


async def _read_body(headers: dict[str, str], receive: Receive) -> bytes:
    """Read at most `MAX_BODY` bytes, whatever the headers promise.

    Of a longer delivery a little more is read and dropped: who is still sending when the connection closes sees a reset
    instead of the answer.
    """
    promised = headers.get("content-length", "0")
    if not promised.isdigit() or int(promised) > DRAINED:
        raise _Refused(413, f"a delivery has at most {MAX_BODY} bytes")
    body = bytearray()
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _Refused(400, "the sender went away")
        size += len(event.get("body", b""))
        more = event.get("more_body", False)
        if size > DRAINED or (size > MAX_BODY and not more):
            raise _Refused(413, f"a delivery has at most {MAX_BODY} bytes")
        if size <= MAX_BODY:
            body += event.get("body", b"")
        if not more:
            return bytes(body)


def _parse(body: bytes) -> CommonAlert:
    try:
        return CommonAlert.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(p) for p in first["loc"]) or "body"
        raise _Refused(422, f"not the common alert schema: {where}: {clean(first['msg'], 200)}") from None
    except RecursionError:
        raise _Refused(422, "not the common alert schema: nested too deep") from None
