"""The eight steps: inject, alert, receive, retrain, register, audit, tell, drift back below 0.10.

One `ClosedLoop` is one run. It takes the project's own alert rule for the model (threshold, metrics, window) under a name of
this run, so that the rows it injects are seen by this run's rule and by no other, and leaves the project's own incidents
alone. Gates, promotion and audit are the project's; receiver and channels are `Parts`. The rows that it injects stay in the
table, marked by their run id (``injected-loop-RUN``) and status (``injected``); nothing is removed from anywhere.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest

from pytest_mlgates.alerts.query import LIVE_LOOP_RULE, LOOP_ROWS, LOOP_RULE
from pytest_mlgates.closed_loop.parts import LoopOpen, Parts, Seen, alert_of
from pytest_mlgates.closed_loop.record import STEPS, Record
from pytest_mlgates.errors import MlgatesError

if TYPE_CHECKING:
    from pytest_mlgates.config import AlertRule, Settings
    from pytest_mlgates.wiring import Project

INJECTIONS: dict[str, dict[str, float]] = {
    "data": {"psi_overall": 0.30},
    "prediction": {"psi_overall": 0.05, "prediction_psi": 0.30},
    "performance": {"psi_overall": 0.30, "performance_rmse_delta_pct": 0.30},
    # performance down while the inputs are where they were
    "concept": {"psi_overall": 0.05, "performance_rmse_delta_pct": 0.30},
}
"""Rows of the drift table that each kind of drift leaves, by metric."""
PSI_MAX = 0.10
_POLL_S = 0.5
_DEAD_ENDS = ("failed", "suppressed", "noted")


def new_run(*, live: bool) -> str:
    """Return the name of a new run; rows and rule carry it."""
    return (LIVE_LOOP_RULE if live else LOOP_RULE).removeprefix(LOOP_RULE) + uuid.uuid4().hex[:12]


def own_rule(settings: Settings, model: str, run: str, kind: str) -> AlertRule | None:
    """Return the model's first enabled rule under the run's name, watching the injected metrics too; ``None`` without one."""
    rule = next((r for r in settings.alerts.rules if r.enabled and fnmatchcase(model, r.model)), None)
    if rule is None:
        return None
    extra = [m for m in INJECTIONS[kind] if m not in rule.metrics and m != "psi_overall"]
    mine = {"name": LOOP_RULE + run, "model": model, "cooldown_days": 0.0, "metrics": (*rule.metrics, *extra)}
    return rule.model_copy(update=mine)


class ClosedLoop:
    """One run of the loop; `open_loop` makes it."""

    def __init__(
        self, project: Project, model: str, parts: Parts, record: Record, *, run: str, deadline_s: float, kind: str
    ) -> None:
        self.project, self.model, self.deadline_s, self.kind = project, model, deadline_s, kind
        self.run = run
        self.alert_id = ""
        self.version = ""
        self._parts, self._record = parts, record
        self._failed = ""
        self._done = 0
        self._before = {v.version for v in project.registry.versions(model)}

    def start(self) -> None:
        """Start the parts."""
        self._parts.start()

    def close(self) -> None:
        """Stop the parts and write the job summary."""
        self._parts.close()
        self._record.write_job_summary()

    def inject(self) -> str:
        """Step 1: write marked drift metrics."""
        import pyarrow as pa

        from pytest_mlgates import tables

        _expect(bool(self._before), f"{self.model} has no version that could drift; train and register one first")
        store = self.project.lakehouse
        rule = next(iter(self._parts.settings.alerts.rules), None)
        table = rule.table if rule is not None else tables.DRIFT_METRICS
        store.create(table, tables.SCHEMAS[tables.DRIFT_METRICS], append_only=True)
        rows = self._rows(rule)
        store.append(table, pa.Table.from_pylist(rows, schema=tables.SCHEMAS[tables.DRIFT_METRICS]))
        found = store.read(table, where=f"run_id = '{LOOP_ROWS}{self.run}'")
        _expect(found.num_rows == len(rows), f"{found.num_rows} of {len(rows)} rows can be read back")
        return ", ".join(f"{r['metric_type']} = {r['value']:g}" for r in rows)

    def _rows(self, rule: AlertRule | None) -> list[dict[str, Any]]:
        """The rows that make the rule fire: large enough for its threshold, in as many bins as it wants."""
        watched = self.project.settings.model(self.model).drift
        threshold = rule.threshold if rule is not None else 0.20
        now = dt.datetime.now(dt.UTC)
        return [
            {
                "run_id": LOOP_ROWS + self.run, "run_timestamp": now - back * dt.timedelta(minutes=rule.bin_minutes if rule else 60),
                "model_name": self.model, "model_version": max(self._before, key=int), "feature_name": "__overall__",
                "metric_type": metric, "value": max(value, 1.5 * threshold) if value > PSI_MAX else value,
                "threshold": threshold, "status": "injected", "severity": "P1", "reference_days": watched.reference_days,
                "current_days": rule.window_days if rule else watched.current_days,
            }
            for back in range(rule.sustained if rule else 1)
            for metric, value in INJECTIONS[self.kind].items()
        ]  # fmt: skip

    def fires(self) -> str:
        """Step 2: an evaluation fires."""
        what = "the alert rule did not fire"
        if not self._parts.settings.alerts.rules:
            what = f"no enabled alert rule of the settings is for {self.model}, so nothing fired"
        return self._wait(self._evaluate, what)

    def received(self) -> str:
        """Step 3: the receiver has the alert."""

        def look() -> str:
            self._evaluate()  # delivers what could not be delivered before
            return self._parts.received(self.alert_id)

        return self._wait(look, "the receiver did not get the alert")

    def pipeline_ran(self) -> str:
        """Step 4: the receiver started the retraining."""
        return self._wait(lambda: self._job("running", "succeeded"), "the retraining did not start")

    def registered(self) -> str:
        """Step 5: a new version carries this alert's id, and the retraining succeeded."""
        self._wait(lambda: self._job("succeeded"), "the retraining did not succeed")
        registry = self.project.registry
        fresh = [v for v in registry.versions(self.model) if v.version not in self._before]
        made = [v for v in fresh if alert_of(registry, v) == self.alert_id]
        _expect(
            len(made) == 1,
            f"{len(made)} new versions (of {len(fresh)}) or their runs are tagged alert_id = {self.alert_id}, not one",
        )
        self.version = made[0].version
        return f"v{self.version}"

    def audited(self) -> str:
        """Step 6: one audit row moves it to Staging, for this alert."""
        rows = [
            r.event
            for r in self.project.audit.rows(self.model)
            if r.event.version == self.version and r.event.to_stage == "Staging" and r.event.state == "committed"
        ]
        _expect(len(rows) == 1, f"{len(rows)} audit rows move v{self.version} to Staging, not one")
        said = rows[0].rationale
        reason = f"{self._parts.settings.alerts.rules[0].reason}_alert"
        _expect(reason in said and self.alert_id in said, f"the audit row does not name {reason} and the alert: {said!r}")
        return said

    def told(self) -> str:
        """Step 7: the people's channel got the alert, and the summary once."""

        def look() -> str:
            if not all(self._parts.told(self.alert_id)):
                self._evaluate()  # delivers what the channel did not take before
            return "taken" if all(self._parts.told(self.alert_id)) else ""

        self._wait(look, "the Teams channel did not get both the alert and the summary")
        alerts, summaries = self._parts.told(self.alert_id)
        _expect((alerts, summaries) == (1, 1), f"the alert came {alerts} times and the summary {summaries} times, not once")
        return "one alert, one summary"

    def quiet(self) -> str:
        """Step 8: drift on the fresh challenger is below 0.10."""
        from pytest_mlgates.services.monitor import run_drift

        project = self.project
        run = run_drift(project.registry, project.lakehouse, project.settings, self.model, version=self.version, write=False)
        psi = run.report.psi_overall
        if psi is None:
            raise LoopOpen(f"there is too little data to judge the drift of v{self.version}: {run.decision.sentence}")
        _expect(psi < PSI_MAX, f"PSI on v{self.version} is {psi:.3f}, not below {PSI_MAX}")
        return f"PSI {psi:.3f}"

    def step(self, number: int, action: Callable[[], str]) -> None:
        """Run one step; one that fails is why those after it are skipped."""
        __tracebackhide__ = True
        if self._failed:
            self._record.step(number, "skipped", self._failed, 0.0)
            pytest.skip(self._failed)
        if number != self._done + 1:
            pytest.fail(f"step {number} stands on the {number - 1} before it; run all {len(STEPS)} in order", pytrace=False)
        began = time.monotonic()
        problem = figure = ""
        try:
            figure = action()
        except MlgatesError as error:
            problem = str(error)
        except BaseException as error:  # stopped by hand, or a fault of ours: the record says where
            self._record.step(number, "failed", f"{type(error).__name__}: {error}", time.monotonic() - began)
            self._failed = f"step {number} ended with {type(error).__name__}"
            raise
        known = {"alert_id": self.alert_id, "version": self.version}
        if problem:
            self._failed = f"step {number} failed: {problem}"
            self._record.step(number, "failed", problem, time.monotonic() - began, **known)
            pytest.fail(f"{problem}; what it left is in {self._record.folder}", pytrace=False)
        self._record.step(number, "passed", figure, time.monotonic() - began, **known)
        self._done = number

    def _wait(self, look: Callable[[], str], otherwise: str) -> str:
        until = time.monotonic() + self.deadline_s
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > until:
                raise LoopOpen(f"{otherwise} within {self.deadline_s:g} s{self._standing()}")
            time.sleep(_POLL_S)

    def _standing(self) -> str:
        """How the retraining stands, for the message of a step that gave up."""
        seen: Seen | None = self._parts.job(self.alert_id) if self.alert_id else None
        if seen is None:
            return ""
        how = f"; approve it: mlgates retrain approve {self.alert_id}" if seen.state == "waiting" else ""
        return f": it is {seen.state} ({seen.note}){how}"

    def _evaluate(self) -> str:
        from pytest_mlgates.alerts import ledger
        from pytest_mlgates.alerts.evaluate import evaluate

        self._parts.tick()
        report = evaluate(self.project.lakehouse, self._parts.settings, env=self._parts.env)
        for problem in report.problems.values():
            raise LoopOpen(problem)
        rows = ledger.read(self.project.lakehouse).rows
        self.alert_id = next((r.alert_id for r in rows if r.event == "fired" and r.rule == LOOP_RULE + self.run), "")
        return self.alert_id

    def _job(self, *wanted: str) -> str:
        seen = self._parts.job(self.alert_id)
        if seen is not None and seen.state in _DEAD_ENDS:
            raise LoopOpen(f"the retraining is {seen.state}: {seen.note}")
        return f"{seen.state}, {seen.note}" if seen is not None and seen.state in wanted else ""


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise LoopOpen(otherwise)
