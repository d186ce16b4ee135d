"""Readiness, verification, doctor and cleanup over a project in which everything holds, one fact flipped at a time."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import threading

import pytest
from deltalake import DeltaTable

from pytest_mlgates.services import doctor
from pytest_mlgates.services.load_run import LOAD_TAG
from pytest_mlgates.services.readiness_facts import ENDPOINTS
from pytest_mlgates.tables import ALERTS, AUDIT, COST, RETRAIN_TRIGGERS

DAY = dt.timedelta(days=1)


def table(ready, name):
    return DeltaTable(ready.world.lake.uri(name))


def loosen(ready, name):
    table(ready, name).alter.set_table_properties({"delta.appendOnly": "false"})


def endpoint_down(ready):
    ready.close()


def one_instance(ready):
    ready._endpoint(instances=1)


def load_test_failed(ready):
    bad = {"p99_ms": 450.0, "errors": 0, "verdict": "fail", "n": 1000}
    ready.world.registry.log_artifact(ready.champion, "mlgates/load/y.json", json.dumps(bad).encode())
    ready.world.registry.set_version_tag(ready.name, ready.champion.version, LOAD_TAG, "mlgates/load/y.json")


def second_production(ready):
    # the champion's evidence, load test and commit are those of no version in particular then: items 2 to 4 speak of Production too
    ready.world.registry.set_stage(ready.name, "1", "Production")


def no_rollback(ready):
    ready.world.registry.client.delete_model_version(ready.name, "1")


def commit_unknown(ready):
    # trained and judged there: only the repository does not know it
    ready.world.registry.client.set_tag(ready.champion.run_id, "git_sha", "")


def gate_red(ready):
    from tests.promotion.world import ALL_PASS

    results = tuple(r if r.gate != "latency" else type(r)(gate="latency", verdict="fail", summary="slow") for r in ALL_PASS)
    ready.world.judge(ready.champion, results=results, git={"sha": ready.sha, "dirty": False})
    # the loop's version has passed its gates once: the tag says what the newest evidence says
    ready.world.registry.set_version_tag(ready.name, ready.champion.version, "mlgates.verdict", "pass")


def batch_failed(ready):
    loosen(ready, COST)
    table(ready, COST).update({"status": "'failed'"}, predicate="run_id = 'batch-2'")


def batch_stopped(ready):
    loosen(ready, COST)
    table(ready, COST).delete("surface = 'batch' AND run_id IN ('batch-0', 'batch-1')")


def drift_failed(ready):
    loosen(ready, COST)
    table(ready, COST).update({"status": "'failed'"}, predicate="run_id = 'drift-0'")


def trigger_open(ready):
    row = {"trigger_id": "u", "triggered_at": ready.now + DAY, "model_name": ready.name, "model_version": "2"}
    ready.add(RETRAIN_TRIGGERS, [{**row, "severity": "P2", "reasons": "drift", "drift_run_id": "run-7", "status": "open"}])


def delivery_failed(ready):
    row = {
        "alert_id": "alert-1",
        "event_time": ready.now,
        "event": "failed",
        "rule": "drift",
        "model_name": ready.name,
        "severity": "P2",
    }
    ready.add(ALERTS, [{**row, "channel": "teams"}])


def no_mail(ready):
    path = ready.world.folder / "mlgates.toml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if '"email"' not in line))
    ready.world.__dict__.pop("settings", None)


def loop_31_days_ago(ready):
    loosen(ready, ALERTS)
    then = (ready.now - 31 * DAY).strftime("%Y-%m-%d %H:%M:%S")
    table(ready, ALERTS).update({"event_time": f"TIMESTAMP '{then}'"}, predicate="event = 'fired'")


def audit_row_missing(ready):
    loosen(ready, AUDIT)
    table(ready, AUDIT).delete("seq = 1")
    table(ready, AUDIT).alter.set_table_properties({"delta.appendOnly": "true"})


def audit_unguarded(ready):
    loosen(ready, AUDIT)


def untagged(ready):
    path = ready.world.folder / "mlgates.toml"
    path.write_text(path.read_text().replace('centers = { "*" = "cc-1" }', "centers = {}"))
    ready.world.__dict__.pop("settings", None)


def no_storage(ready):
    loosen(ready, COST)
    table(ready, COST).delete("surface = 'storage'")


def runbook_gone(ready):
    (ready.world.folder / "runbook.md").unlink()


def runbook_without_drift(ready):
    (ready.world.folder / "runbook.md").write_text("call somebody")


def postmortem_empty(ready):
    (ready.world.folder / "postmortem.md").write_text(" \n")


FLIPS = {
    no_rollback: 1, commit_unknown: 2, gate_red: 3, endpoint_down: 4, one_instance: 4, load_test_failed: 4, batch_failed: 5,
    batch_stopped: 5, drift_failed: 6, trigger_open: 6, delivery_failed: 7, no_mail: 7, loop_31_days_ago: 8, audit_row_missing: 9,
    audit_unguarded: 9, untagged: 10, no_storage: 10, runbook_gone: 11, runbook_without_drift: 11, postmortem_empty: 12,
}  # fmt: skip


def test_everything_holds(ready):
    """All twelve items pass, the command exits 0, and so do the five verifications but the stale ones."""
    assert set(ready.items.values()) == {"pass"}, ready.judged()
    done = ready.world.mlgates("readiness", ready.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 of 12 items hold" in done.stdout
    wiki = ready.world.mlgates("readiness", ready.name, "--markdown").stdout
    assert wiki.count("✅") == 12


@pytest.mark.parametrize("flip", FLIPS, ids=lambda f: f.__name__)
def test_one_fact_flips_one_item(ready, flip):
    """Exactly the item of the fact that changed moves."""
    before = ready.items
    assert set(before.values()) == {"pass"}
    flip(ready)
    after = ready.items
    assert [n for n in after if after[n] != before[n]] == [FLIPS[flip]], ready.judged()


def test_a_second_production_version(ready):
    """Items that speak of the version in Production cannot hold for two."""
    second_production(ready)
    assert {n for n, v in ready.items.items() if v != "pass"} == {1, 2, 3, 4}


def test_the_five_verifications(ready):
    """Each query has its criterion; the loop here took two days, so that one alone fails."""
    done = ready.world.mlgates("verify", ready.name)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert [line[:4] for line in lines] == ["PASS", "PASS", "PASS", "PASS", "FAIL"], done.stdout


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("HTTP 401 Unauthorized on REST API", 1),
        ("Capacity throttle: 429 Too Many Requests", 2),
        ("MLflow UI returns 404 Experiment not found", 3),
        ("Endpoint smoke test times out (>30s)", 4),
        ("transition_model_version_stage returns Permission denied", 5),
        ("Drift notebook returns NaN PSI", 6),
        ("Logic App fires but pipeline never starts", 7),
        ("Promoted to Production but consumers still see old model", 8),
        ("registry at http://h did not answer: UNAUTHENTICATED: token", 1),
        ("REQUEST_LIMIT_EXCEEDED: slow down", 2),
        ("MlflowException: Could not find experiment with name 'slots'", 3),
        ("Server error '503 Service Unavailable' for url 'http://h/v1/e'", 4),
        ("RestException: PERMISSION_DENIED: no", 5),
        ("[skipped: insufficient data]", 6),
        ("the retraining did not start", 7),
        ("consumers load a stale model", 8),
    ],
)
def test_the_eight_symptoms(text, number):
    """The tutorial's own words are recognised, each as one symptom, with a fix."""
    assert [s.number for s in doctor.explain(text)] == [number]


class _Refusing(http.server.BaseHTTPRequestHandler):
    """Answers everything as its server says: a status and MLflow's error code."""

    def do_GET(self):
        status, code = self.server.answer
        body = json.dumps({"error_code": code, "message": "No Experiment with id=3 exists" if status == 404 else "no"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 the name is http.server's

    def log_message(self, *words):
        pass


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ((401, "UNAUTHENTICATED"), 1),
        ((429, "REQUEST_LIMIT_EXCEEDED"), 2),
        ((404, "RESOURCE_DOES_NOT_EXIST"), 3),
        ((403, "PERMISSION_DENIED"), 5),
    ],
)
def test_a_registry_that_refuses(world, monkeypatch, answer, number):
    """What it says is recognised at once, without MLflow's own minutes of asking again, and without a traceback."""
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "0" if "RETRIES" in name else "15")
        monkeypatch.delenv(name)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    server.answer = answer
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    settings = world.folder / "mlgates.toml"
    settings.write_text(settings.read_text().replace(world.uri, f"http://127.0.0.1:{server.server_address[1]}"))
    try:
        done = world.mlgates("doctor")
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("FAIL registry"))
    assert line.endswith(f"[symptom {number}]"), done.stdout + done.stderr


def test_the_doctor_finds_what_is_wrong(ready):
    """A pin, an endpoint that is down and a clock that is ahead are named, with the fix."""
    (ready.world.folder / "consumer.py").write_text('m = load("models:/revenue/2")\n')
    ready.close()
    ready.cost(recorded_at=ready.now + DAY)
    done = ready.world.mlgates("doctor")
    assert done.returncode == 1
    for words in ("[symptom 4]", "[symptom 8]", "from the future", "fix:"):
        assert words in done.stdout, done.stdout


def test_cleanup_says_then_does(ready):
    """Nothing changes before --yes; then the definition is kept with no instances, and the audit is as it was."""
    path = ready.world.folder / ENDPOINTS / "m" / "prod" / "endpoint.json"
    before = path.read_text()
    rows = ready.world.audit.rows()
    dry = ready.world.mlgates("cleanup")
    assert dry.returncode == 0
    assert "would pause endpoint prod" in dry.stdout
    assert path.read_text() == before
    old = ready.world.registry.client.create_run("0", start_time=int((ready.now - 100 * DAY).timestamp() * 1000))
    ready.world.registry.client.set_terminated(old.info.run_id)
    assert ready.world.mlgates("cleanup", "--yes").returncode == 0
    definition = json.loads(path.read_text())["definition"]
    assert (definition["minInstances"], definition["maxInstances"], definition["name"]) == (0, 0, "prod")
    assert ready.world.audit.rows() == rows
    kept = ready.world.registry.client.get_run(old.info.run_id)
    assert "mlgates.archived" in kept.data.tags
    assert kept.info.lifecycle_stage == "active"
    assert ready.world.mlgates("cleanup").stdout == "nothing to do\n"
