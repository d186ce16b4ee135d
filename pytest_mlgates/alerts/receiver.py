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
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pytest_mlgates.alerts import incoming
from pytest_mlgates.alerts.inbox import OVER, Inbox, Job, Replayed, job_key
from pytest_mlgates.alerts.messages import clean
from pytest_mlgates.alerts.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, SignatureRefused, verify
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

_ONCE = frozenset({TIMESTAMP_HEADER.lower(), SIGNATURE_HEADER.lower()})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


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
        headers = _headers(scope["headers"])
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
        try:
            alert = incoming.parse(body)
            job, made = await self._in_pool(self._take, alert, used, now)
        except incoming.NotAnAlert as refusal:
            raise _Refused(422, str(refusal)) from None
        except Replayed as replay:
            raise _Refused(409, str(replay)) from None
        if self._runner is not None:
            self._runner.wake()
        url = f"/alerts/{urllib.parse.quote(job_key(alert.data.essentials.alertId))}"
        answer = {"status_url": url, "state": job.state, "duplicate": not made}
        return 202, answer, [(b"location", url.encode())]

    async def _in_pool(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    def _take(self, alert: incoming.CommonAlert, used: str, now: float) -> tuple[Job, bool]:
        essentials = alert.data.essentials
        key = job_key(essentials.alertId)
        resolved = essentials.monitorCondition == "Resolved"
        model, state, note = (alert.named_model(), OVER, "") if resolved else self._first_state(alert, now)
        job = Job(
            key=key,
            alert_id=clean(essentials.alertId, 512),
            model=clean(model, 512),
            rule=clean(essentials.alertRule, 512),
            severity=essentials.severity,
            reason=clean(alert.custom("trigger_reason") or "drift_alert", 80),
            state=state,
            received=now,
            updated=now,
            note=note,
        )
        if resolved:
            return self._inbox.take_resolved(job, signature=used, now=now), False
        return self._inbox.take(job, signature=used, now=now)

    def _first_state(self, alert: incoming.CommonAlert, now: float) -> tuple[str, str, str]:
        """The alert's model, and whether it starts a retraining.

        An evaluator of ours says what its cool-down decided; for others the model's ``retrain.cooldown_days`` is kept here.
        """
        wanted = alert.custom("retrain")
        if alert.custom("about") == "test" or wanted == "none":
            return alert.named_model(), "noted", "a message only"
        model = incoming.model_of(alert, self._settings)
        retrain = self._settings.model(model).retrain
        if wanted == "suppressed":
            return model, "suppressed", "cool-down"
        if not wanted and retrain.cooldown_days:
            last = self._inbox.last_started(model)
            if last is not None and now < last + retrain.cooldown_days * 86_400:
                return model, "suppressed", f"cool-down of {retrain.cooldown_days:g} days"
        if retrain.mode == "manual" or alert.custom("trigger_reason") == CONCEPT_REASON:
            return model, "waiting", "waits for mlgates retrain approve"
        return model, "queued", ""


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name in lower case. One that decides and stands there twice is refused: which of them was meant is no guess."""
    out: dict[str, str] = {}
    for raw_name, value in pairs:
        name = raw_name.decode("latin-1").lower()
        if name in out and name in _ONCE:
            raise _Refused(401, f"{raw_name.decode('latin-1')} must stand there once")
        out[name] = value.decode("latin-1")
    return out


async def _read_body(headers: dict[str, str], receive: Receive) -> bytes:
    """Read at most `MAX_BODY` bytes, whatever the headers promise.

    Of a longer delivery a little more is read and dropped: who is still sending when the connection closes sees a reset
    instead of the answer.
    """
    promised = headers.get("content-length", "0")
    if not (promised.isascii() and promised.isdigit()) or len(promised) > 12 or int(promised) > DRAINED:
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
