"""What is said, and its three written forms: Azure's common alert schema, a Teams adaptive card, a mail.

Shapes: the common alert schema of Azure Monitor (``schemaId`` ``azureMonitorCommonAlertSchema``), the message that a Teams
Workflows webhook takes (an attachment with an Adaptive Card 1.4), RFC 5322 mail with a ``Message-ID`` made from the
alert's id, so that a mail sent again after a crash is the same mail.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import unicodedata
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from typing import Any

_CARD_SCHEMA = "http://adaptivecards.io/schemas/adaptive-card.json"
_CARD_BYTES = 28_000  # a Teams Workflows webhook takes 28 kB
_TEXT_MAX = 2_000
_COLOURS = {
    "fired": "attention",
    "escalated": "attention",
    "resolved": "good",
    "test": "accent",
    "passed": "good",
    "blocked": "warning",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell one group.

    ``about`` is ``fired``, ``escalated``, ``resolved``, ``test`` or ``summary``; ``features`` holds ``feature``, ``psi`` and
    ``status`` of the drift run; ``retrain`` is ``start``, ``suppressed`` or ``none``, ``retrain_note`` says why.
    """

    alert_id: str
    about: str
    rule: str
    model: str
    severity: str
    headline: str
    fired_at: dt.datetime
    value: float | None = None
    threshold: float | None = None
    metric: str = ""
    run_id: str = ""
    window_start: dt.datetime | None = None
    window_minutes: int = 60
    reason: str = ""
    retrain: str = "none"
    retrain_note: str = ""
    features: Sequence[Mapping[str, Any]] = ()
    advice: str = ""
    links: Mapping[str, str] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """The identity of this notice: a channel delivers it once."""
        return f"{self.alert_id}.{self.about}.{self.severity}"

    def lines(self) -> list[str]:
        """The notice as plain text, line by line."""
        out = [clean(self.headline), ""]
        out += [f"{name}: {value}" for name, value in self._facts()]
        if self.features:
            out += ["", "Features, by PSI:"]
            out += [f"  {clean(f['feature'])}: {f['psi']:.3f}{_chance(f)} ({clean(f['status'])})" for f in self.features]
        out += ["", *(clean(text) for text in (self.retrain_note, self.advice) if text)]
        out += [f"{clean(label)}: {clean(url)}" for label, url in self.web_links().items()]
        return out

    def web_links(self) -> dict[str, str]:
        """The links that lead to a web page; no other scheme is shown."""
        return {label: url for label, url in self.links.items() if url.startswith(("https://", "http://"))}

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("Model", clean(self.model)), ("Severity", self.severity)]
        if self.rule:
            facts.append(("Rule", clean(self.rule)))
        if self.value is not None and self.threshold is not None:
            facts.append((clean(self.metric) or "Value", f"{self.value:.4g} (threshold {self.threshold:.4g})"))
        if self.window_start is not None:
            facts.append(("Since", f"{self.window_start:%Y-%m-%d %H:%M} UTC"))
        if self.run_id:
            facts.append(("Drift run", clean(self.run_id)))
        facts += [(clean(k), clean(v)) for k, v in self.facts.items()]
        return [*facts, ("Alert", clean(self.alert_id))]


def clean(text: object, limit: int = _TEXT_MAX) -> str:
    """Return text without control and direction-changing characters: names come from a registry that takes any."""
    kept = "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else " " for c in str(text))
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def common_alert_schema(notice: Notice) -> dict[str, Any]:
    """Return the notice as Azure's common alert schema; thresholds are strings there, metric values numbers."""
    resolved = notice.about == "resolved"
    start = notice.window_start or notice.fired_at
    essentials = {
        "alertId": notice.alert_id,
        "alertRule": notice.rule,
        "severity": "Sev" + notice.severity.removeprefix("P"),
        "signalType": "Log",
        "monitorCondition": "Resolved" if resolved else "Fired",
        "monitoringService": "pytest-mlgates",
        "alertTargetIDs": [f"/models/{notice.model}"],
        "configurationItems": [notice.model],
        "originAlertId": notice.alert_id,
        "firedDateTime": _zulu(start if resolved else notice.fired_at),
        "description": notice.headline,
        "essentialsVersion": "1.0",
        "alertContextVersion": "1.0",
    }
    if resolved:
        essentials["resolvedDateTime"] = _zulu(notice.fired_at)
    condition = {
        "metricName": notice.metric,
        "metricMeasureColumn": "value",
        "operator": "GreaterThan",
        "threshold": "" if notice.threshold is None else f"{notice.threshold:g}",
        "timeAggregation": "Maximum",
        "dimensions": [{"name": "ModelName", "value": notice.model}],
        "metricValue": notice.value,
    }
    context = {
        "properties": {"drift_run_id": notice.run_id, "features": [dict(f) for f in notice.features]},
        "conditionType": "LogQueryCriteria",
        "condition": {
            "windowSize": f"PT{notice.window_minutes}M",
            "allOf": [condition],
            "windowStartTime": _zulu(start),
            "windowEndTime": _zulu(start + dt.timedelta(minutes=notice.window_minutes)),
        },
    }
    custom = {
        "model_name": notice.model,
        "trigger_reason": notice.reason,
        "severity": notice.severity,
        "about": notice.about,
        "retrain": notice.retrain,
    }
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {"essentials": essentials, "alertContext": context, "customProperties": custom},
    }


def teams_message(notice: Notice) -> dict[str, Any]:
    """Return the notice as the message that a Teams Workflows webhook takes; features are dropped to keep it under 28 kB."""
    colour = _COLOURS.get(notice.facts.get("Verdict", notice.about).lower(), _COLOURS.get(notice.about, "default"))
    body: list[dict[str, Any]] = [
        {
            "type": "TextBlock",
            "size": "large",
            "weight": "bolder",
            "wrap": True,
            "color": colour,
            "text": _markdown(notice.headline),
        },
        {"type": "FactSet", "facts": [{"title": _markdown(k), "value": _markdown(v)} for k, v in notice._facts()]},
    ]
    if notice.features:
        facts = [
            {"title": _markdown(f["feature"]), "value": f"PSI {f['psi']:.3f}{_chance(f)} {_markdown(f['status'])}"}
            for f in notice.features
        ]
        body += [{"type": "TextBlock", "weight": "bolder", "text": "Features"}, {"type": "FactSet", "facts": facts}]
    body += [
        {"type": "TextBlock", "wrap": True, "text": _markdown(text)} for text in (notice.retrain_note, notice.advice) if text
    ]
    card: dict[str, Any] = {"$schema": _CARD_SCHEMA, "type": "AdaptiveCard", "version": "1.4", "body": body}
    actions = [{"type": "Action.OpenUrl", "title": clean(label, 60), "url": url} for label, url in notice.web_links().items()]
    if actions:
        card["actions"] = actions[:6]
    message = {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}],
    }
    if notice.features and len(str(message).encode()) > _CARD_BYTES:
        return teams_message(dataclasses.replace(notice, features=()))
    return message


def mail(notice: Notice, *, sender: str, to: Sequence[str]) -> EmailMessage:
    """Return the notice as a mail."""
    message = EmailMessage()
    message["Subject"] = clean(f"[mlgates {notice.severity}] {notice.headline}", 200)
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Message-ID"] = f"<{notice.key}@mlgates.invalid>"
    message["Date"] = notice.fired_at
    message["X-Mlgates-Alert"] = notice.alert_id
    message.set_content("\n".join(notice.lines()) + "\n")
    return message


def _markdown(text: object) -> str:
    """Escape what Teams reads as markdown, so that a model's name cannot draw links."""
    return "".join("\\" + c if c in "[]*_`<>" else c for c in clean(text))


def _chance(feature: Mapping[str, Any]) -> str:
    """The adjusted p-value of a column, where the drift run had one."""
    return f", q {feature['q']:.1g}" if "q" in feature else ""


def _zulu(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
