"""Evaluations over real Delta tables, delivered to real servers."""

from __future__ import annotations

import datetime as dt
import json
import socket
import threading
import time

import pyarrow as pa
import pytest

from pytest_mlgates import tables
from pytest_mlgates.alerts import ledger
from pytest_mlgates.alerts.evaluate import evaluate, send_test
from pytest_mlgates.alerts.signing import verify
from pytest_mlgates.alerts.summary import announce
from pytest_mlgates.errors import ConfigError, WriteConflict
from pytest_mlgates.lakehouse import Lakehouse

from .conftest import MODEL, NOW, SECRET, free_port, inject, make_settings, webhook

ENV = {"MLGATES_WEBHOOK_SECRET": SECRET}
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


def events(store) -> list[str]:
    return [r.event for r in ledger.read(store).rows]


def test_an_injected_030_fires_in_one_evaluation_and_is_one_incident_after_24_more(store, sink, tmp_path) -> None:
    settings = make_settings(tmp_path, channels=[webhook(sink.url)])
    inject(store, 0.30)
    first = evaluate(store, settings, now=NOW, env=ENV)
    assert [(t.event, t.model, t.value) for t in first.fired] == [("fired", MODEL, 0.30)]
    for hour in range(1, 25):
        later = evaluate(store, settings, now=NOW + hour * HOUR, env=ENV)
        assert later.transitions == ()
        assert later.deliveries == ()
    assert events(store) == ["fired", "delivered"]
    assert len(sink.requests) == 1
    sent = sink.bodies[0]["data"]
    assert sent["essentials"]["alertId"] == first.fired[0].alert_id
    assert sent["customProperties"]["retrain"] == "start"
    headers = {k.lower(): v for k, v in sink.requests[0]["headers"].items()}
    verify(SECRET, headers, sink.requests[0]["body"], now=time.time())


@pytest.mark.parametrize(
    ("value", "more"),
    [
        (0.20, {}),
        (float("nan"), {}),
        (float("inf"), {}),
        (0.30, {"metric": "psi"}),
        (0.30, {"days": 30}),
        (0.30, {"model": "another-model"}),
        (0.30, {"at": NOW - 3 * DAY}),
        (0.30, {"at": NOW + DAY}),
    ],
)
def test_what_the_rule_does_not_ask_for_does_not_fire(store, tmp_path, value, more) -> None:
    settings = make_settings(tmp_path, rule={"model": "casino-*"})
    inject(store, value, **more)
    assert evaluate(store, settings, now=NOW, env=ENV).transitions == ()


def test_no_table_yet_says_nothing(store, tmp_path) -> None:
    assert evaluate(store, make_settings(tmp_path), now=NOW, env=ENV).transitions == ()


@pytest.mark.parametrize(("how", "value"), [("max", 0.3), ("avg", 0.2), ("min", 0.1), ("median", 0.2)])
def test_aggregates(store, tmp_path, how, value) -> None:
    for v in (0.1, 0.2, 0.3):
        inject(store, v)
    settings = make_settings(tmp_path, rule={"aggregate": how, "threshold": value - 0.01})
    assert [t.value for t in evaluate(store, settings, now=NOW, env=ENV).fired] == [pytest.approx(value)]


def test_severity_rise_is_told_once_and_the_end_too(store, sink, tmp_path) -> None:
    settings = make_settings(tmp_path, channels=[webhook(sink.url)], rule={"escalate": {"P1": 0.25}})
    for hour, value in enumerate((0.22, 0.23, 0.40, 0.41, 0.10, 0.09)):
        inject(store, value, at=NOW + hour * HOUR)
        evaluate(store, settings, now=NOW + hour * HOUR, env=ENV)
    told = [(b["data"]["essentials"]["monitorCondition"], b["data"]["customProperties"]["about"]) for b in sink.bodies]
    assert told == [("Fired", "fired"), ("Fired", "escalated"), ("Resolved", "resolved")]
    assert [b["data"]["essentials"]["severity"] for b in sink.bodies] == ["Sev2", "Sev1", "Sev1"]
    assert len({b["data"]["essentials"]["alertId"] for b in sink.bodies}) == 1


def test_a_cool_down_holds_back_the_retraining_and_never_the_message(store, sink, tmp_path) -> None:
    settings = make_settings(tmp_path, channels=[webhook(sink.url)], rule={"cooldown_days": 7.0})
    for days, value in ((0, 0.30), (1, 0.05), (2, 0.30), (3, 0.05), (8, 0.30)):
        inject(store, value, at=NOW + days * DAY)
        evaluate(store, settings, now=NOW + days * DAY, env=ENV)
    fired = [b["data"]["customProperties"]["retrain"] for b in sink.bodies if b["data"]["customProperties"]["about"] == "fired"]
    assert fired == ["start", "suppressed", "start"]
    assert events(store).count("suppressed") == 1


def test_two_rules_on_one_model_ask_for_one_retraining(store, sink, tmp_path) -> None:
    settings = make_settings(tmp_path, channels=[webhook(sink.url)])
    second = settings.alerts.rules[0].model_copy(update={"name": "second"})
    settings = settings.model_copy(
        update={"alerts": settings.alerts.model_copy(update={"rules": (*settings.alerts.rules, second)})}
    )
    inject(store, 0.30)
    evaluate(store, settings, now=NOW, env=ENV)
    assert sorted(b["data"]["customProperties"]["retrain"] for b in sink.bodies) == ["start", "suppressed"]


def test_two_evaluators_at_once_fire_once(store, sink, tmp_path) -> None:
    settings = make_settings(tmp_path, channels=[webhook(sink.url)])
    inject(store, 0.30)
    ready = threading.Barrier(4)
    errors: list[Exception] = []

    def run() -> None:
        ready.wait()
        try:
            evaluate(Lakehouse(store.root), settings, now=NOW, env=ENV)
        except Exception as error:  # noqa: BLE001 whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []
    assert events(store) == ["fired", "delivered"]
    assert len(sink.requests) == 1


def test_a_claim_on_a_ledger_that_moved_on_is_refused(store) -> None:
    seen = ledger.read(store)
    row = ledger.AlertRow("a", NOW, "fired", "drift", MODEL, "P2", window_start=NOW)
    ledger.claim(store, seen, [row])
    with pytest.raises(WriteConflict):
        ledger.claim(store, seen, [row])


def test_a_server_that_is_down_is_tried_again_at_the_next_evaluation(store, sink, tmp_path) -> None:
    settings = make_settings(tmp_path, channels=[webhook(sink.url, tries=2)])
    sink.answers = [503, 503]
    inject(store, 0.30)
    first = evaluate(store, settings, now=NOW, env=ENV)
    assert [d.ok for d in first.deliveries] == [False]
    second = evaluate(store, settings, now=NOW + HOUR, env=ENV)
    assert [d.ok for d in second.deliveries] == [True]
    assert events(store) == ["fired", "failed", "delivered"]
    assert len({b["data"]["essentials"]["alertId"] for b in sink.bodies}) == 1


def test_retries_within_one_evaluation_honour_retry_after(store, sink, tmp_path) -> None:
    settings = make_settings(tmp_path, channels=[webhook(sink.url, tries=3)])
    sink.answers = [429]
    sink.headers = {"Retry-After": "1"}
    inject(store, 0.30)
    assert evaluate(store, settings, now=NOW, env=ENV).failed == ()
    assert sink.requests[1]["time"] - sink.requests[0]["time"] >= 1.0


def test_what_cannot_be_delivered_becomes_a_dead_letter(store, sink, make_sink, tmp_path) -> None:
    refusing = make_sink()
    refusing.answers = [400] * 9
    channels = [webhook(sink.url, tries=1, rounds=2), webhook(refusing.url, name="refusing")]
    sink.answers = [500] * 9
    settings = make_settings(tmp_path, channels=channels)
    inject(store, 0.30)
    for hour in range(5):
        evaluate(store, settings, now=NOW + hour * HOUR, env=ENV)
    rows = [(r.event, r.channel) for r in ledger.read(store).rows if r.channel]
    assert sorted(rows) == [("dead", "refusing"), ("dead", "webhook"), ("failed", "webhook")]
    assert len(refusing.requests) == 1
    assert len(sink.requests) == 2


def test_one_slow_channel_delays_no_other(store, sink, make_sink, mailbox, tmp_path) -> None:
    slow = make_sink()
    slow.delay_s = 3.0
    channels = [
        webhook(slow.url, name="slow", timeout_s=0.8, tries=2),
        webhook(sink.url, name="quick"),
        {"kind": "email", "to": ["oncall@example.org"], "port": mailbox.port},
    ]
    inject(store, 0.30)
    report = evaluate(store, make_settings(tmp_path, channels=channels), now=NOW, env=ENV)
    assert {d.channel: d.ok for d in report.deliveries} == {"slow": False, "quick": True, "email": True}
    times = {r.channel: r.event_time.timestamp() for r in ledger.read(store).rows if r.channel}
    assert max(times["quick"], times["email"]) < times["slow"]
    assert sink.requests[0]["time"] < slow.requests[1]["time"]  # while the slow one was still in its first attempt


def test_a_channel_that_answers_a_byte_at_a_time_has_its_time_and_no_more(store, sink, tmp_path) -> None:
    """Every byte comes within the timeout; the attempt as a whole does not."""
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        while True:
            try:
                peer = listener.accept()[0]
                for byte in b"HTTP/1.1 202 Accepted\r\n" * 40:
                    peer.sendall(bytes([byte]))
                    time.sleep(0.1)
            except OSError:
                return

    for _ in range(2):
        threading.Thread(target=drip, daemon=True).start()
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    channels = [
        webhook(f"http://{address}", name="slow", timeout_s=0.4, tries=1),
        {
            "kind": "email",
            "name": "slow-mail",
            "to": ["a@example.org"],
            "port": int(address[10:]),
            "timeout_s": 0.4,
            "tries": 1,
        },
        webhook(sink.url, name="quick"),
    ]
    inject(store, 0.30)
    began = time.monotonic()
    report = evaluate(store, make_settings(tmp_path, channels=channels), now=NOW, env=ENV)
    listener.close()
    assert time.monotonic() - began < 10
    assert {d.channel: d.ok for d in report.deliveries} == {"slow": False, "slow-mail": False, "quick": True}
    assert "not done within 0.4 s" in next(d.detail for d in report.failed if d.channel == "slow")


def test_a_rule_whose_table_cannot_be_read_keeps_no_other_from_firing(store, sink, tmp_path) -> None:
    store.create("lh_gold.other", pa.schema([("x", pa.int64())]))
    settings = make_settings(tmp_path, channels=[webhook(sink.url)])
    odd = settings.alerts.rules[0].model_copy(update={"name": "odd", "table": "lh_gold.other"})
    rules = settings.alerts.model_copy(update={"rules": (odd, *settings.alerts.rules)})
    inject(store, 0.30)
    report = evaluate(store, settings.model_copy(update={"alerts": rules}), now=NOW, env=ENV)
    assert [t.rule for t in report.fired] == ["drift"]
    assert list(report.problems) == ["odd"]
    assert "lh_gold.other has no column" in report.problems["odd"]
    assert len(sink.requests) == 1


def test_the_mail_says_which_drift_which_features_and_what_to_do(store, mailbox, tmp_path) -> None:
    inject(store, 0.30, run="run-77")
    rows = [
        {
            "run_id": "run-77",
            "run_timestamp": NOW,
            "model_name": MODEL,
            "feature_name": f,
            "metric_type": "psi",
            "value": v,
            "status": s,
        }
        for f, v, s in (("promo_active", 0.41, "drift"), ("lag_7_revenue", 0.02, "ok"), ("is_holiday", float("nan"), "skipped"))
    ]
    store.append(tables.DRIFT_METRICS, pa.Table.from_pylist(rows))
    channel = {"kind": "email", "to": ["oncall@example.org", "lead@example.org"], "port": mailbox.port}
    settings = make_settings(tmp_path, channels=[channel], links={"Runbook": "https://example.org/runbook"})
    report = evaluate(store, settings, now=NOW, env=ENV)
    mail = mailbox.mails[0]
    text = mail.get_payload(decode=True).decode()
    assert mail["To"] == "oncall@example.org, lead@example.org"
    assert report.fired[0].alert_id in mail["Message-ID"]
    for part in (
        MODEL,
        "psi_overall: 0.3 (threshold 0.2)",
        "promo_active: 0.410 (drift)",
        "run-77",
        "https://example.org/runbook",
    ):
        assert part in text
    assert text.index("promo_active") < text.index("lag_7_revenue")
    assert "is_holiday" not in text
    assert "retraining is asked for" in text


@pytest.mark.parametrize(
    ("status", "words"),
    [("drift", "beyond chance"), ("insufficient", "too few rows"), ("injected", "was injected to test the loop")],
)
def test_the_message_says_how_sure_the_figure_is(store, sink, tmp_path, status, words) -> None:
    store.create(tables.DRIFT_METRICS, tables.SCHEMAS[tables.DRIFT_METRICS], append_only=True)
    common = {"run_id": "r'1", "run_timestamp": NOW, "model_name": MODEL, "status": status, "current_days": 7}
    rows = [
        {**common, "feature_name": "__overall__", "metric_type": "psi_overall", "value": 0.3},
        {**common, "feature_name": "promo_active", "metric_type": "psi", "value": 0.3},
        {**common, "feature_name": "promo_active", "metric_type": "q", "value": 0.00012},
    ]
    store.append(tables.DRIFT_METRICS, pa.Table.from_pylist(rows, schema=tables.SCHEMAS[tables.DRIFT_METRICS]))
    settings = make_settings(tmp_path, channels=[{"kind": "teams", "url": sink.url}])
    evaluate(store, settings, now=NOW, env=ENV)
    card = json.dumps(sink.bodies[0])
    assert words in card
    assert "PSI 0.300, q 0.0001" in card


def test_concept_drift_is_announced_as_waiting_for_approval(store, sink, tmp_path) -> None:
    inject(store, 0.30)
    evaluate(
        store,
        make_settings(tmp_path, channels=[{"kind": "teams", "url": sink.url}], rule={"reason": "concept"}),
        now=NOW,
        env=ENV,
    )
    assert "mlgates retrain approve alert-" in json.dumps(sink.bodies[0])


def test_a_missing_secret_is_named_and_mended_by_the_next_evaluation(store, sink, tmp_path) -> None:
    settings = make_settings(tmp_path, channels=[webhook(sink.url, tries=1)])
    inject(store, 0.30)
    report = evaluate(store, settings, now=NOW, env={})
    assert "MLGATES_WEBHOOK_SECRET" in report.failed[0].detail
    assert evaluate(store, settings, now=NOW, env=ENV).failed == ()


def test_a_marked_test_goes_out_and_asks_for_no_retraining(store, sink, tmp_path) -> None:
    settings = make_settings(tmp_path, channels=[webhook(sink.url)])
    sent = send_test(store, settings, "drift", env=ENV)
    assert [d.ok for d in sent] == [True]
    body = sink.bodies[0]["data"]
    assert "[TEST]" in body["essentials"]["description"]
    assert (body["customProperties"]["about"], body["customProperties"]["retrain"]) == ("test", "none")
    with pytest.raises(ConfigError, match="did you mean 'drift'"):
        send_test(store, settings, "drft", env=ENV)
    assert [d.ok for d in send_test(store, settings, "drift", env={})] == [False]
    assert evaluate(store, settings, now=NOW, env=ENV).deliveries == ()  # nobody waits for a test that failed
    assert len(sink.requests) == 1


def test_a_summary_is_told_once_to_people_and_not_to_machines(store, sink, make_sink, tmp_path) -> None:
    teams = make_sink()
    channels = [webhook(sink.url), {"kind": "teams", "url_env": "TEAMS"}]
    settings = make_settings(tmp_path, channels=channels)
    env = {"TEAMS": f"{teams.url}/hook?sig=planted-teams-signature"}
    message = "Retrained: m v3 passed\nVerdict: passed\nRun: https://mlflow.example/run/1"
    for _ in range(2):
        announce(store, settings, alert_id="a1", rule="drift", model=MODEL, message=message, env=env)
    assert sink.requests == []
    assert len(teams.requests) == 1
    card = teams.bodies[0]["attachments"][0]["content"]
    assert card["body"][0]["text"] == "Retrained: m v3 passed"
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Run", "url": "https://mlflow.example/run/1"}]


def test_planted_secrets_are_in_no_row_whatever_goes_wrong(store, make_sink, tmp_path, caplog) -> None:
    """Refused, unreachable, redirected and malformed addresses: no secret in the table, the report or a log."""
    refusing, redirecting = make_sink(), make_sink()
    refusing.answers = [403]
    redirecting.answers = [302]
    redirecting.headers = {"Location": "http://127.0.0.1:1/stolen"}
    planted = {
        "A": f"{refusing.url}/w?sig=planted-signature-aaa",
        "B": f"http://127.0.0.1:{free_port()}/w?sig=planted-signature-bbb",
        "C": f"{redirecting.url}/w?sig=planted-signature-ccc",
        "D": "http://[planted-signature-ddd",
        "MLGATES_WEBHOOK_SECRET": SECRET,
        "MLGATES_SMTP_PASSWORD": "planted-password-eee",
    }
    channels = [{"kind": "teams", "name": n, "url_env": n, "tries": 1} for n in "ABCD"]
    channels += [webhook(f"http://127.0.0.1:{free_port()}", tries=1)]
    channels += [{"kind": "email", "to": ["a@example.org"], "port": free_port(), "user": "u", "tries": 1}]
    inject(store, 0.30)
    caplog.set_level("DEBUG")
    report = evaluate(store, make_settings(tmp_path, channels=channels), now=NOW, env=planted)
    assert len(report.failed) == 6
    text = repr(report) + repr(ledger.read(store)) + "\n".join(r.getMessage() for r in caplog.records)
    text += "".join(p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file())
    for secret in ("planted-signature", SECRET, "planted-password"):
        assert secret not in text
    assert redirecting.requests
    assert refusing.requests
