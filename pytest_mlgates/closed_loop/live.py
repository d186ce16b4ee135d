"""The run on deployed parts: the receiver, the pipeline and the people's channels that the settings name.

Nothing is started here but the evaluation. The rule is the model's own under the name of the run, so that the deployed
evaluators neither see the injected rows nor open an incident on them, while its messages go to the real group.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_mlgates.closed_loop.parts import LoopOpen, Seen, alert_of

if TYPE_CHECKING:
    from pytest_mlgates.config import AlertRule, Channel
    from pytest_mlgates.wiring import Project

_STATUS_TIMEOUT_S = 10.0


class LiveParts:
    """The deployed receiver and channels of the rule's action group."""

    def __init__(self, project: Project, rule: AlertRule | None, env: Mapping[str, str]) -> None:
        self._project = project
        self.env = env
        alerts = project.settings.alerts
        self.settings = project.settings.model_copy(
            update={"alerts": alerts.model_copy(update={"rules": () if rule is None else (rule,)})}
        )
        group = alerts.groups.get(rule.group) if rule is not None else None
        channels = group.channels if group is not None else ()
        self._webhooks = [c for c in channels if c.kind == "webhook"]
        self._people = [c for c in channels if c.kind != "webhook"]

    def start(self) -> None:
        """Nothing is started: the parts are deployed."""

    def close(self) -> None:
        """Nothing is stopped."""

    def tick(self) -> None:
        """Nothing comes up late."""

    def received(self, alert_id: str) -> str:
        """The receiver's status page where it has one, else the channel that confirmed the delivery."""
        if not self._webhooks:
            raise LoopOpen("the rule's action group has no webhook channel, so no receiver is told; add one to the settings")
        for channel in self._webhooks:
            if self._delivered(alert_id, "fired", channel):
                return self._status_url(channel, alert_id) or f"confirmed by channel {channel.label}"
        return ""

    def job(self, alert_id: str) -> Seen | None:
        """What the receiver's status page says; without one (a Logic App), what the registry shows."""
        import httpx

        for channel in self._webhooks:
            url = self._status_url(channel, alert_id)
            if not url:
                continue
            try:
                answer = httpx.get(url, timeout=_STATUS_TIMEOUT_S)
                found = answer.json() if answer.is_success else {}
            except (httpx.HTTPError, ValueError):
                continue
            if isinstance(found, dict) and found.get("alert_id") == alert_id:
                return Seen(str(found.get("state", "")), " ".join(str(found.get("note", "")).split()) or "by the status page")
        return self._seen_in_registry(alert_id)

    def told(self, alert_id: str) -> tuple[int, int]:
        """How many times the least told of the people's channels confirmed the alert, and the summary."""
        if not self._people:
            raise LoopOpen("the rule's action group has no channel to people (teams, email, …); add one to the settings")
        alerts = min(self._delivered(alert_id, "fired", c) for c in self._people)
        return alerts, min(self._delivered(alert_id, "summary", c) for c in self._people)

    def _delivered(self, alert_id: str, about: str, channel: Channel) -> int:
        from pytest_mlgates.alerts import ledger

        rows = ledger.read(self._project.lakehouse).rows
        return sum(
            r.event == "delivered" and r.alert_id == alert_id and r.about == about and r.channel == channel.label for r in rows
        )

    def _status_url(self, channel: Channel, alert_id: str) -> str:
        """Address of the alert's status page; empty for addresses that carry a secret, which are nobody's status page."""
        from pytest_mlgates.alerts.inbox import job_key

        address = self.env.get(channel.url_env, "") if channel.url_env else channel.url
        try:
            parts = urllib.parse.urlsplit(address)
        except ValueError:
            return ""
        if parts.query or parts.username or parts.scheme not in ("http", "https"):
            return ""
        return f"{address.rstrip('/')}/{urllib.parse.quote(job_key(alert_id))}"

    def _seen_in_registry(self, alert_id: str) -> Seen | None:
        registry = self._project.registry
        for rule in self.settings.alerts.rules:  # the run's own, of one model
            for version in reversed(registry.versions(rule.model)):
                if alert_of(registry, version) == alert_id:
                    return Seen("succeeded" if version.stage == "Staging" else "running", f"seen as {version.label}")
        return None
