"""Alerts to post, a receiver's application to post them to, and a wait for what comes of them."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse

import httpx

from pytest_mlgates.alerts.inbox import Inbox
from pytest_mlgates.alerts.messages import Notice, common_alert_schema
from pytest_mlgates.alerts.receiver import Receiver
from pytest_mlgates.alerts.signing import signed_headers

from .conftest import MODEL, NOW, SECRET, make_settings

CLOCK = 1_790_000_000


def notice(alert_id: str = "alert-1", **more) -> Notice:
    given = {
        "about": "fired", "rule": "drift", "model": MODEL, "severity": "P2", "headline": "drift", "fired_at": NOW,
        "value": 0.3, "threshold": 0.2, "metric": "psi_overall", "retrain": "start", "reason": "drift_alert",
    }  # fmt: skip
    return Notice(alert_id=alert_id, **{**given, **more})


def body_of(alert_id: str = "alert-1", **more) -> bytes:
    return json.dumps(common_alert_schema(notice(alert_id, **more))).encode()


class Harness:
    def __init__(self, tmp_path, **settings) -> None:
        self.inbox = Inbox(tmp_path / "q.db")
        self.now = float(CLOCK)
        self.app = Receiver(self.inbox, make_settings(tmp_path, **settings), secret=SECRET, clock=lambda: self.now)

    def send(self, body: bytes, headers: dict[str, str] | None = None, *, method="POST", path="/alerts") -> httpx.Response:
        if headers is None:
            headers = signed_headers(SECRET, int(self.now), body)

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
                return await client.request(method, path, content=body, headers=headers)

        return asyncio.run(go())


def azure(**essentials) -> dict:
    """The common alert schema as Azure's documentation shows it for a log alert, without our properties."""
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {
            "essentials": {
                "alertId": "/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.AlertsManagement/alerts/25151fd4",
                "alertRule": "drift", "severity": "Sev2", "signalType": "Log", "monitorCondition": "Fired",
                "monitoringService": "Log Alerts V2", "alertTargetIDs": [], "configurationItems": [], "originAlertId": "x",
                "firedDateTime": "2026-11-20T12:00:00.0000000Z", "description": "", "essentialsVersion": "1.0",
                "alertContextVersion": "1.0", **essentials,
            },
            "alertContext": {
                "properties": {},
                "conditionType": "LogQueryCriteria",
                "condition": {
                    "windowSize": "PT1H",
                    "allOf": [{"dimensions": [{"name": "ModelName", "value": MODEL}], "threshold": "0.2", "metricValue": 0.3}],
                },
            },
        },
    }  # fmt: skip


ONCE = "import os, json; f = open('starts', 'a'); f.write(os.environ['MLGATES_ALERT_ID'] + chr(10)); f.close(); " + (
    "json.dump({'outcome': 'succeeded', 'message': os.environ['MLGATES_TRIGGER_REASON']}, open(os.environ['MLGATES_RETRAIN_RESULT'], 'w'))"
)


def wait_for(inbox: Inbox, *states: str, within: float = 60) -> list:
    until = time.monotonic() + within
    while time.monotonic() < until:
        jobs = inbox.jobs()
        if jobs and all(j.state in states for j in jobs):
            return jobs
        time.sleep(0.05)
    raise AssertionError([(j.alert_id, j.state, j.note) for j in inbox.jobs()])


async def post_at_once(url: str, content: bytes, headers: dict[str, str]) -> int:
    """Send head and body in one write: a busy machine must not come between them for longer than the receiver waits."""
    at = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    lines = {"Host": at.netloc, "Content-Length": str(len(content)), "Connection": "close", **headers}
    head = f"POST {at.path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
    writer.write(head.encode() + content)
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status
