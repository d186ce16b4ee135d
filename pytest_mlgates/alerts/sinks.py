"""Delivery of one notice over one channel: timeouts, retries with a growing wait, and no secret in what is reported."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import queue
import smtplib
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import httpx

from pytest_mlgates.alerts import messages
from pytest_mlgates.alerts.signing import signed_headers
from pytest_mlgates.errors import ExtraMissing

if TYPE_CHECKING:
    from pytest_mlgates.alerts.messages import Notice
    from pytest_mlgates.config import Channel

_FIRST_WAIT_S = 0.5
_MAX_WAIT_S = 30.0
_SLACK_S = 0.5  # so that a timeout of the connection itself, which says more, comes first
_RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONFLICT = 409
_PERMANENT_SMTP = 500
_SECRET_WORTH_HIDING = 4  # shorter strings would blank ordinary words


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery ended. ``permanent``: trying again cannot help. ``detail`` is free of secrets."""

    ok: bool
    detail: str
    tries: int = 1
    permanent: bool = False


class _Failed(Exception):
    """An attempt that failed. ``permanent``: no other helps; ``ours``: none does before somebody mends our side."""

    def __init__(self, detail: str, *, permanent: bool = False, ours: bool = False, wait_s: float = 0.0) -> None:
        self.permanent = permanent
        self.ours = ours
        self.wait_s = wait_s
        super().__init__(detail)


def deliver(
    channel: Channel,
    notice: Notice,
    *,
    env: Mapping[str, str],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> Outcome:
    """Deliver one notice, with up to ``channel.tries`` attempts; never raises for what the other side does."""
    wait = _FIRST_WAIT_S
    for attempt in range(1, channel.tries + 1):
        try:
            detail = _within(channel, lambda: _SENDERS[channel.kind](channel, notice, env, clock))
        except _Failed as failure:
            text = redact(str(failure), channel, env)
            if failure.permanent or failure.ours or attempt == channel.tries:
                return Outcome(ok=False, detail=text, tries=attempt, permanent=failure.permanent)
            sleep(min(max(wait, failure.wait_s), _MAX_WAIT_S))
            wait *= 2
        else:
            return Outcome(ok=True, detail=redact(detail, channel, env), tries=attempt)
    raise AssertionError("unreachable: tries is at least 1")


def _within(channel: Channel, send: Callable[[], str]) -> str:
    """Send, for no longer than the channel's time in all: a server that answers a byte at a time keeps within every timeout.

    A thread that hangs is left behind; should it get through after all, the notice goes out again under the same id.
    """
    ended: queue.Queue[str | Exception] = queue.Queue()

    def work() -> None:
        try:
            ended.put(send())
        except Exception as error:  # noqa: BLE001 raised again where it is waited for
            ended.put(error)

    threading.Thread(target=work, name=f"mlgates-{channel.kind}", daemon=True).start()
    try:
        found = ended.get(timeout=channel.timeout_s + _SLACK_S)
    except queue.Empty:
        raise _Failed(f"channel {channel.label!r} was not done within {channel.timeout_s:g} s") from None
    if isinstance(found, Exception):
        raise found
    return found


def redact(text: str, channel: Channel, env: Mapping[str, str]) -> str:
    """Return ``text`` on one line without the channel's secrets and without the query of any address."""
    out = " ".join(text.split())
    for secret in _secrets(channel, env):
        out = out.replace(secret, "***")
    return out


def _secrets(channel: Channel, env: Mapping[str, str]) -> list[str]:
    named = (channel.url_env, channel.secret_env, channel.password_env)
    values = [env[name] for name in named if name and env.get(name)]
    address = _address(channel, env)
    values.append(address)
    with contextlib.suppress(ValueError):  # not a URL: then all of it is what must not be shown
        parts = urllib.parse.urlsplit(address)
        values += [parts.query, parts.password or "", *(v for _, v in urllib.parse.parse_qsl(parts.query))]
    return sorted({v for v in values if len(v) >= _SECRET_WORTH_HIDING}, key=len, reverse=True)


def _address(channel: Channel, env: Mapping[str, str]) -> str:
    return env.get(channel.url_env, "") if channel.url_env else channel.url


def _url(channel: Channel, env: Mapping[str, str]) -> str:
    found = _address(channel, env)
    if not found:
        raise _Failed(f"the variable {channel.url_env} with the address of channel {channel.label!r} is not set", ours=True)
    return found


def _webhook(channel: Channel, notice: Notice, env: Mapping[str, str], clock: Callable[[], float]) -> str:
    body = json.dumps(messages.common_alert_schema(notice), separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json"}
    secret = env.get(channel.secret_env, "")
    if not secret:
        detail = f"the variable {channel.secret_env} with the signing key of channel {channel.label!r} is not set"
        raise _Failed(detail, ours=True)
    headers |= signed_headers(secret, int(clock()), body)
    return _post(channel, _url(channel, env), body, headers, already=_CONFLICT)


def _teams(channel: Channel, notice: Notice, env: Mapping[str, str], clock: Callable[[], float]) -> str:
    del clock
    body = json.dumps(messages.teams_message(notice)).encode()
    return _post(channel, _url(channel, env), body, {"Content-Type": "application/json"})


def _post(channel: Channel, url: str, body: bytes, headers: dict[str, str], already: int | None = None) -> str:
    """Post, following no redirect (it could carry the signature elsewhere). ``already``: a status that means it has it."""
    host = _host(url)
    if not host:
        raise _Failed(f"the address of channel {channel.label!r} is not an http or https URL", permanent=True)
    try:
        with _unlogged():
            answer = httpx.post(url, content=body, headers=headers, timeout=channel.timeout_s, follow_redirects=False)
    except httpx.InvalidURL:
        raise _Failed(f"the address of channel {channel.label!r} is not a URL", permanent=True) from None
    except httpx.HTTPError as error:  # its text may hold the whole address: say only what kind it is
        raise _Failed(f"{host} did not answer ({type(error).__name__})") from None
    if answer.is_success or answer.status_code == already:
        return f"{answer.status_code} from {host}"
    detail = f"{answer.status_code} from {host}"
    after = answer.headers.get("retry-after", "")
    wait = float(after) if after.isdecimal() else 0.0
    raise _Failed(detail, permanent=answer.status_code not in _RETRY_STATUS, wait_s=wait)


class _QuietFilter(logging.Filter):
    """Drops what httpx logs of a request while its thread is in `_unlogged`: the whole address, signature and all."""

    active = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        del record
        return not getattr(self.active, "on", False)


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    logger = logging.getLogger("httpx")
    if not any(isinstance(f, _QuietFilter) for f in logger.filters):
        logger.addFilter(_QuietFilter())
    _QuietFilter.active.on = True
    try:
        yield
    finally:
        _QuietFilter.active.on = False


def _host(url: str) -> str:
    """Return what may be shown of an address, empty where it is none."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.scheme in ("http", "https") and parts.hostname else ""


def _email(channel: Channel, notice: Notice, env: Mapping[str, str], clock: Callable[[], float]) -> str:
    del clock
    message = messages.mail(notice, sender=channel.sender, to=channel.to)
    try:
        with smtplib.SMTP(channel.host, channel.port, timeout=channel.timeout_s) as server:
            if channel.starttls:
                server.starttls(context=ssl.create_default_context())
            if channel.user:
                server.login(channel.user, env.get(channel.password_env, ""))
            refused = server.send_message(message)
    except smtplib.SMTPResponseException as error:
        detail = f"{channel.host}:{channel.port} answered {error.smtp_code}"
        raise _Failed(detail, permanent=error.smtp_code >= _PERMANENT_SMTP) from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        detail = f"{channel.host}:{channel.port} refused every recipient ({', '.join(map(str, codes))})"
        raise _Failed(detail, permanent=min(codes) >= _PERMANENT_SMTP) from None
    except (smtplib.SMTPException, OSError) as error:
        raise _Failed(f"{channel.host}:{channel.port} did not take the mail ({type(error).__name__})") from None
    return f"taken by {channel.host}:{channel.port}" + (f", {len(refused)} recipients refused" if refused else "")


def _apprise(channel: Channel, notice: Notice, env: Mapping[str, str], clock: Callable[[], float]) -> str:
    del clock
    try:
        import apprise
    except ImportError:
        raise _Failed(str(ExtraMissing.of("apprise", "notify", f"channel {channel.label!r}")), permanent=True) from None
    target = apprise.Apprise()
    if not target.add(_url(channel, env)):
        raise _Failed(f"the address of channel {channel.label!r} is none that apprise knows", permanent=True)
    if not target.notify(title=messages.clean(notice.headline, 250), body="\n".join(notice.lines())):
        raise _Failed(f"apprise could not deliver over channel {channel.label!r}")
    return "taken by apprise"


_SENDERS: dict[str, Callable[[Channel, Notice, Mapping[str, str], Callable[[], float]], str]] = {
    "webhook": _webhook,
    "teams": _teams,
    "email": _email,
    "pagerduty": _apprise,
    "apprise": _apprise,
}
