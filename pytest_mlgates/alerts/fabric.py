"""Runs a Fabric pipeline instead of a command: the job scheduler's REST API (``POST …/jobs/instances?jobType=Pipeline``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx

from pytest_mlgates.errors import MlgatesError

if TYPE_CHECKING:
    from pytest_mlgates.config import FabricJob

_ACCEPTED = 202
_TOO_MANY = 429
_TIMEOUT_S = 30.0
_FIRST_WAIT_S = 60.0
_ENDED = {"Completed": "succeeded", "Failed": "failed", "Cancelled": "failed", "Deduped": "succeeded"}


class FabricRefused(MlgatesError):
    """Fabric did not take the job, or does not tell of it."""


def submit(fabric: FabricJob, token: str, *, reason: str, alert_id: str, sleep: Callable[[float], None] = time.sleep) -> str:
    """Start the pipeline and return the address of the job instance (the 202's ``Location``). Raises FabricRefused."""
    url = f"{fabric.base_url}/v1/workspaces/{fabric.workspace_id}/items/{fabric.pipeline_id}/jobs/instances"
    body = {"executionData": {"parameters": {"trigger_reason": reason, "alert_id": alert_id}}}
    answer = _call("POST", url, token, sleep=sleep, params={"jobType": "Pipeline"}, json=body)
    location = str(answer.headers.get("location", ""))
    if answer.status_code != _ACCEPTED or not location:
        raise FabricRefused(
            f"Fabric answered {answer.status_code} to the pipeline's start, expected 202 with Location{_why(answer)}"
        )
    if httpx.URL(location).host != httpx.URL(fabric.base_url).host:  # the token goes nowhere else
        raise FabricRefused(f"Fabric's Location is on another host ({httpx.URL(location).host}); not followed")
    return location


def follow(
    fabric: FabricJob,
    token: str,
    location: str,
    *,
    deadline: float,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, str]:
    """Ask for the job instance until it has ended; return ``succeeded`` or ``failed``, and a note.

    Statuses outside the published enumeration count as still running. ``Deduped`` means that the pipeline ran already.
    """
    while True:
        answer = _call("GET", location, token, sleep=sleep)
        if not answer.is_success:
            raise FabricRefused(f"Fabric answered {answer.status_code} when asked for the job{_why(answer)}")
        found: Any = answer.json() if answer.content else {}
        status = str(found.get("status", "")) if isinstance(found, dict) else ""
        if status in _ENDED:
            reason = found.get("failureReason") or {}
            return _ENDED[status], f"Fabric: {status}" + (f", {reason.get('message', '')}" if reason else "")
        wait = _retry_after(answer, default=min(_FIRST_WAIT_S, 10.0))
        if clock() + wait > deadline:
            return "failed", f"Fabric: still {status or 'unknown'} at the deadline; the pipeline may go on"
        sleep(wait)


def _call(method: str, url: str, token: str, *, sleep: Callable[[float], None], **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    for last in (False, False, True):
        try:
            answer = httpx.request(method, url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False, **more)
        except httpx.HTTPError as error:
            raise FabricRefused(f"Fabric did not answer ({type(error).__name__})") from None
        if answer.status_code != _TOO_MANY or last:
            return answer
        sleep(_retry_after(answer, default=_FIRST_WAIT_S))
    raise AssertionError("unreachable")


def _retry_after(answer: httpx.Response, *, default: float) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else default


def _why(answer: httpx.Response) -> str:
    try:
        code = answer.json().get("errorCode", "")
    except (ValueError, AttributeError):
        return ""
    return f" ({code})" if code else ""
