"""Real stores, real HTTP and SMTP servers, and settings for the alert tests."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message

import pyarrow as pa
import pytest

from pytest_mlgates import tables
from pytest_mlgates.config import Settings, parse_settings
from pytest_mlgates.lakehouse import Lakehouse
from tests import heavy  # noqa: F401 before any `pytester`

NOW = dt.datetime(2026, 11, 20, 12, 0, tzinfo=dt.UTC)
MODEL = "casino-slot-revenue-forecast-challenger"
SECRET = "planted-webhook-secret-7f3a"


class Sink(http.server.ThreadingHTTPServer):
    """An HTTP receiver that records what it is sent and answers what it is told to: ``answers``, then 202 for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.answers: list[int] = []
        self.delay_s = 0.0
        self.headers: dict[str, str] = {}
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def bodies(self) -> list[dict]:
        return [json.loads(r["body"]) for r in self.requests]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        sink = self.server
        record = {"path": self.path, "headers": dict(self.headers.items()), "body": body, "time": time.time()}
        status = sink.answers.pop(0) if sink.answers else 202
        sink.requests.append(record)
        time.sleep(sink.delay_s)
        self.send_response(status)
        for name, value in sink.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[Sink]:
    server = Sink()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def make_sink() -> Iterator:
    made: list[Sink] = []

    def make() -> Sink:
        made.append(Sink())
        return made[-1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


class Mailbox:
    """A real SMTP server's mails."""

    def __init__(self) -> None:
        self.mails: list[Message] = []

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        self.mails.append(message_from_bytes(envelope.content))
        return "250 taken"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    from aiosmtpd.controller import Controller

    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    box.port = controller.port
    yield box
    controller.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def store(tmp_path) -> Lakehouse:
    return Lakehouse(tmp_path / "lakehouse")


def metric_row(
    value: float,
    *,
    at: dt.datetime = NOW,
    metric: str = "psi_overall",
    model: str = MODEL,
    days: int = 7,
    run: str = "r1",
) -> dict:
    """One drift metric."""
    return {
        "run_id": run, "run_timestamp": at, "model_name": model, "model_version": "1", "feature_name": "__overall__",
        "metric_type": metric, "value": value, "threshold": 0.2, "status": "drift", "severity": "P2",
        "reference_days": 90, "current_days": days,
    }  # fmt: skip


def append_metrics(store, rows: list[dict]) -> None:
    """Append drift metrics in one commit."""
    store.create(tables.DRIFT_METRICS, tables.SCHEMAS[tables.DRIFT_METRICS], append_only=True)
    store.append(tables.DRIFT_METRICS, pa.Table.from_pylist(rows, schema=tables.SCHEMAS[tables.DRIFT_METRICS]))


def inject(store, value: float, **more) -> None:
    """Append one drift metric (`metric_row`), as the tutorial's step 18 does by hand."""
    append_metrics(store, [metric_row(value, **more)])


def make_settings(tmp_path, *, channels=(), rule=None, retrain=None, groups=None, **alerts) -> Settings:
    """Settings of one model, one rule named drift and one group named mlops."""
    rules = [{"name": "drift", "group": "mlops", **(rule or {})}]
    raw = {
        "models": {
            "casino-slot-revenue-forecast-*": {
                "task": "regression", "target": "revenue", "holdout": "lh_gold.h", "retrain": retrain or {},
            }
        },
        "alerts": {"rules": rules, "groups": groups or {"mlops": {"channels": list(channels)}}, **alerts},
    }  # fmt: skip
    return parse_settings(raw, tmp_path / "mlgates.toml")


def webhook(url: str, **more) -> dict:
    return {"kind": "webhook", "url": f"{url}/alerts", **more}
