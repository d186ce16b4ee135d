"""``target = "fabric"``: the job scheduler's API, spoken to a real HTTP server that answers as the published examples do."""

from __future__ import annotations

import http.server
import json
import threading
import time
from pathlib import Path

import pytest

from pytest_mlgates.alerts.fabric import FabricRefused, follow, submit
from pytest_mlgates.alerts.inbox import Inbox, Job
from pytest_mlgates.alerts.runner import Runner
from pytest_mlgates.config import FabricJob

from .conftest import MODEL, make_settings

TOKEN = "planted-fabric-token"
SWAGGER = Path(__file__).parents[3] / "shared" / "reference" / "fabric-rest-api" / "platform" / "jobs.swagger.json"


class Fabric(http.server.ThreadingHTTPServer):
    """Answers 429 once where told to, then 202 with Location, then the statuses it was given, one a question."""

    daemon_threads = True

    def __init__(self, statuses: list[dict]) -> None:
        self.statuses, self.asked, self.busy = statuses, [], 0
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.location = f"{self.url}/v1/workspaces/w/items/p/jobs/instances/j"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        if self.server.busy:
            self.server.busy -= 1
            self._send(429, b"{}", {"Retry-After": "1"})
        else:
            self._send(202, b"", {"Location": self.server.location, "Retry-After": "0"})

    def do_GET(self) -> None:
        found = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        self._send(200, json.dumps(found).encode(), {"Retry-After": "0"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def make_fabric():
    made: list[Fabric] = []

    def make(*statuses: str, **more: object) -> Fabric:
        made.append(Fabric([{"status": s, **more} for s in statuses]))
        return made[-1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


def job_of(server: Fabric) -> FabricJob:
    return FabricJob(workspace_id="w", pipeline_id="p", base_url=server.url)


def test_the_pipeline_is_started_with_the_tutorials_body(make_fabric) -> None:
    server = make_fabric("Completed")
    server.busy = 1
    waits: list[float] = []
    assert submit(job_of(server), TOKEN, reason="drift_alert", alert_id="a1", sleep=waits.append) == server.location
    assert waits == [1.0]
    path, authorization, body = server.asked[-1]
    assert path == "/v1/workspaces/w/items/p/jobs/instances?jobType=Pipeline"
    assert authorization == f"Bearer {TOKEN}"
    assert body == {"executionData": {"parameters": {"trigger_reason": "drift_alert", "alert_id": "a1"}}}


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        (("NotStarted", "InProgress", "Completed"), "succeeded"),
        (("Running", "Whatever", "Failed"), "failed"),
        (("Cancelled",), "failed"),
        (("Deduped",), "succeeded"),
    ],
)
def test_the_job_is_followed_to_its_end_also_over_unknown_statuses(make_fabric, statuses, state) -> None:
    server = make_fabric(*statuses)
    found, note = follow(job_of(server), TOKEN, server.location, deadline=time.time() + 30, sleep=lambda _: None)
    assert found == state
    assert statuses[-1] in note


def test_a_job_that_never_ends_is_given_up_at_the_deadline(make_fabric) -> None:
    server = make_fabric("InProgress")
    state, note = follow(job_of(server), TOKEN, server.location, deadline=time.time() - 1, sleep=lambda _: None)
    assert (state, "still InProgress" in note) == ("failed", True)


def test_the_token_is_not_sent_to_another_host(make_fabric) -> None:
    server = make_fabric("Completed")
    server.location = "http://localhost.invalid/v1/x"
    with pytest.raises(FabricRefused, match="another host"):
        submit(job_of(server), TOKEN, reason="drift_alert", alert_id="a1")


def test_the_runner_takes_up_a_started_job_and_starts_no_second(make_fabric, tmp_path) -> None:
    server = make_fabric("InProgress", "Completed")
    fabric = {"workspace_id": "w", "pipeline_id": "p", "base_url": server.url}
    settings = make_settings(tmp_path, retrain={"target": "fabric", "fabric": fabric})
    inbox = Inbox(tmp_path / "q.db")
    for key, state, location in (("fresh", "queued", None), ("left", "running", server.location)):
        job = Job(
            key, key, MODEL, "drift", "Sev2", "drift_alert", state, time.time(), time.time(), started=1.0, location=location
        )
        inbox.take(job, signature=key, now=time.time())
    runner = Runner(inbox, settings, env={"FABRIC_TOKEN": TOKEN})
    runner.start()
    until = time.monotonic() + 30
    while time.monotonic() < until and {j.state for j in inbox.jobs()} != {"succeeded"}:
        time.sleep(0.05)
    runner.stop()
    assert {j.key: j.state for j in inbox.jobs()} == {"fresh": "succeeded", "left": "succeeded"}
    assert len(server.asked) == 1
    assert TOKEN.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.skipif(not SWAGGER.is_file(), reason="the published API description is not beside this checkout")
def test_path_and_statuses_are_the_published_ones() -> None:
    document = json.loads(SWAGGER.read_text("utf-8"))
    operation = document["paths"]["/workspaces/{workspaceId}/items/{itemId}/jobs/{jobType}/instances"]["post"]
    said = operation["responses"]["202"]["description"]
    assert "**Location**" in said
    assert "**Retry-After**" in said
