"""One pytest run of ours: what is judged, what was found, and the evidence at the end.

Results travel from a worker to the controller as JSON strings in ``user_properties``: a numpy scalar there kills an xdist
session, and a string is readable in JUnit XML.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mlgates import __version__
from pytest_mlgates.config import CHECKS, GATES
from pytest_mlgates.errors import ConfigError, MlgatesError
from pytest_mlgates.redaction import redacted, redacted_values
from pytest_mlgates.report.terminal import Styled, closing, gate_line, next_step, styled_table, table, wrapped
from pytest_mlgates.report.text import printable
from pytest_mlgates.results import GateResult, RunReport, Verdict
from pytest_mlgates.wiring import Project

if TYPE_CHECKING:
    import pytest

    from pytest_mlgates.evidence import Evidence
    from pytest_mlgates.services.evaluate import Baseline, Candidate, Holdout
    from pytest_mlgates.services.monitor import MonitorRun

PROPERTY = "mlgates"
PROOF = "proving"

Target = tuple[str, str]


class GateRun:
    """State of one run: one object, kept in ``config.stash``."""

    def __init__(self, project: Project | None, targets: Sequence[Target], endpoint_uri: str = "") -> None:
        self._project = project
        self.targets = tuple(targets)
        self.endpoint_uri = endpoint_uri
        self.drift = False  # the drift of the models' rows is judged, not their gates
        self.reports: tuple[RunReport, ...] = ()
        self.notes: list[str] = []
        self._results: dict[Target, dict[str, GateResult]] = {target: {} for target in targets}
        self._subjects: dict[Target, dict[str, Any]] = {}
        self._candidates: dict[Target, Candidate] = {}
        self._holdouts: dict[str, Holdout] = {}
        self._baselines: dict[Target, Baseline] = {}
        self._looks: dict[Target, int] = {}
        self._drift_runs: dict[Target, MonitorRun] = {}
        self._stages: dict[Target, str] = {}
        self._stores = True

    @classmethod
    def start(
        cls,
        *,
        names: Sequence[str],
        specs: Sequence[str],
        settings_path: str | None,
        endpoint_uri: str = "",
        resolved: Sequence[Sequence[str]] | None = None,
    ) -> GateRun:
        """Check the settings whole, then resolve the versions (once: a worker is given them).

        Raises
        ------
        ConfigError, ModelNotFound, UsageProblem
            Before any model is loaded.
        """
        if not names:
            return cls(None, (), endpoint_uri)
        project = Project.open(settings_path)
        if resolved is None:
            from pytest_mlgates.services.select import select_versions

            found = select_versions(project.registry, names, specs)
            resolved = [(v.name, v.version) for v in found]
        for name, _ in resolved:
            _check_settings_hold(project, name)
        return cls(project, [(str(n), str(v)) for n, v in resolved], endpoint_uri)

    @property
    def project(self) -> Project:
        """The project. Raises ConfigError where the run judges an endpoint only."""
        if self._project is None:
            raise ConfigError("this test needs a model version; name one with --model-name NAME --model-version V")
        return self._project

    def ids(self) -> list[str]:
        """Test ids of the targets: ``v2``, or ``name-v2`` where several models are judged."""
        several = len({name for name, _ in self.targets}) > 1
        return [f"{name}-v{version}" if several else f"v{version}" for name, version in self.targets]

    @cached_property
    def cache(self) -> Path:
        """Folder that predictions are shared through."""
        base = os.environ.get("MLGATES_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return Path(base) / "mlgates" / "predictions"

    def candidate(self, target: Target) -> Candidate:
        """The version under test."""
        from pytest_mlgates.services.evaluate import Candidate

        if target not in self._candidates:
            settings = self.project.settings.model(target[0])
            version = self.project.registry.get(*target)
            self._candidates[target] = Candidate(self.project.registry, version, settings, self.cache)
        return self._candidates[target]

    def holdout(self, target: Target) -> Holdout:
        """Its holdout."""
        from pytest_mlgates.services.evaluate import load_holdout

        settings = self.project.settings.model(target[0])
        key = repr((settings.holdout, settings.target, settings.sensitive))
        if key not in self._holdouts:
            self._holdouts[key] = load_holdout(self.project.lakehouse, settings, self.project.folder)
        return self._holdouts[key]

    def baseline(self, target: Target) -> Baseline:
        """Its baseline."""
        from pytest_mlgates.services.evaluate import load_baseline

        if target not in self._baselines:
            settings = self.project.settings.model(target[0])
            self._baselines[target] = load_baseline(self.project.registry, settings, self.holdout(target), self.cache)
        return self._baselines[target]

    def looks(self, target: Target) -> int:
        """How many versions were judged on this holdout, those of this run included."""
        if target not in self._looks:
            from pytest_mlgates.services.evaluate import looks_at, models_on

            registry, settings = self.project.registry, self.project.settings
            beside = [t for t in self.targets if settings.model(t[0]).holdout == settings.model(target[0]).holdout]
            names = models_on(registry, settings, target[0])
            self._looks[target] = looks_at(registry, target, self.holdout(target).digest, names, beside)
        return self._looks[target]

    def drift_items(self, target: Target) -> list[str]:
        """What a drift run judges of this version: each input, then each further drift type."""
        from pytest_mlgates.services.drift_gate import drift_items

        return drift_items(self.project.registry, self.project.settings, *target)

    def drift_run(self, target: Target) -> MonitorRun:
        """The drift run over this version's rows, made once; it writes nothing."""
        from pytest_mlgates.services.monitor import run_drift

        if target not in self._drift_runs:
            project, (name, version) = self.project, target
            found = run_drift(project.registry, project.lakehouse, project.settings, name, version=version, write=False)
            self._drift_runs[target] = found
        return self._drift_runs[target]

    def subject(self, target: Target) -> dict[str, Any]:
        """What was judged, as far as it was loaded: goes with each result, and into the evidence."""
        found: dict[str, Any] = {}
        candidate = self._candidates.get(target)
        if candidate is not None and "digest" in vars(candidate):
            found["artifact_digest"] = candidate.digest
        settings = self.project.settings.model(target[0])
        key = repr((settings.holdout, settings.target, settings.sensitive))
        if key in self._holdouts:
            found["holdout"] = self._holdouts[key].describe()
        if target in self._baselines:
            found["baseline"] = self._baselines[target].describe()
        if target in self._looks:
            found["looks"] = self._looks[target]
        return found

    def arrange(self, items: Sequence[pytest.Item]) -> list[pytest.Item]:
        """The items to run, version by version: the five gates, then further checks, then all else, as collected.

        Left out are checks that are switched off, or have nothing declared to judge.
        """
        order = {gate: place for place, gate in enumerate((*GATES, *CHECKS))}
        kept: list[tuple[int, int, pytest.Item]] = []
        for item in items:
            gate, target = _gate_of(item)
            if target is None or target not in self.targets:
                kept.append((len(self.targets), 0, item))
            elif gate not in CHECKS or self.project.settings.model(target[0]).checks.applies(gate):
                kept.append((self.targets.index(target), order.get(gate, len(order)), item))
        return [item for _, _, item in sorted(kept, key=lambda row: row[:2])]

    def record(self, item: pytest.Item, target: Target | None, result: GateResult) -> GateResult:
        """Put a result where it reaches the controller, and return it with model and version filled in."""
        subject: dict[str, Any] = {}
        if target is not None:
            result = dataclasses.replace(result, model=target[0], version=target[1])
            subject = self.subject(target)
        carried = {"result": redacted_values(result.to_dict()), "subject": subject}
        payload = json.dumps(carried, sort_keys=True)
        result = GateResult.from_dict(carried["result"])
        item.user_properties[:] = [p for p in item.user_properties if p[0] != PROPERTY]
        item.user_properties.append((PROPERTY, payload))
        return result

    def record_error(self, item: pytest.Item, message: str) -> str:
        """Record a verdict ``error`` for a test that one of our own errors ended; return its line."""
        gate, target = _gate_of(item)
        result = GateResult(gate=gate, verdict=Verdict.ERROR, summary=printable(message))
        return gate_line(self.record(item, target, result))

    def take(self, report: pytest.TestReport) -> list[GateResult]:
        """Take the verdict that a report carries; empty for a phase that carries none or one that was taken before."""
        carried = carried_result(report)
        if carried is None or report.when == "teardown":
            return []
        result, subject = carried
        key = (result.model, result.version)
        mine = self._results.setdefault(key, {})
        if mine.get(result.gate) == result:
            return []
        mine[result.gate] = result
        before = self._subjects.setdefault(key, {})
        for name, value in subject.items():
            if before.setdefault(name, value) != value:
                changed = f"the {name.replace('_', ' ')} changed while {result.model} v{result.version} was judged; run again"
                mine[name] = GateResult(name, Verdict.ERROR, summary=changed, model=result.model, version=result.version)
        return [result]

    def finish(self, *, store: bool, json_path: str | None, html_path: str | None = None) -> None:
        """Build the reports, store the evidence, write what was asked for."""
        self._stores = store
        self.reports = tuple(self._report(key) for key in self._results)
        judged = [r for r in self.reports if (r.model, r.version) in self.targets]
        if store:
            self._count_looks(judged)
        if store or (html_path and not self.drift):
            found = [self._evidence(report, store=store, shown=bool(html_path)) for report in judged]
            if html_path:
                self._write_page(Path(html_path), [document for document in found if document is not None])
        if json_path:
            rows = [r.to_dict() for report in self.reports for r in report.results]
            Path(json_path).write_text(json.dumps(redacted_values({"results": rows}), indent=2, sort_keys=True) + "\n", "utf-8")
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary and self.reports:
            from pytest_mlgates.report.github import job_summary

            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(redacted(job_summary(self.reports)))

    @property
    def blocks(self) -> bool:
        """Whether anything keeps a version from being promoted."""
        return any(report.blocks for report in self.reports)

    def closing_lines(self, width: int = 80) -> list[Styled]:
        """The closing table per version, its conclusion, the notes, and last the one thing to do next, in ``width`` columns."""
        lines: list[Styled] = []
        for report in self.reports:
            if len(self.reports) > 1:
                lines.append((printable(f"{report.model} v{report.version}"), {"bold": True}))
            lines += styled_table(report.results)
            lines += [(printable(r.summary), {}) for r in report.results if r.gate == PROOF and r.summary]
            lines += [closing(report), ("", {})]
        told = [*lines[:-1], *((printable(note), {}) for note in self.notes), (f"next: {self._next()}", {"bold": True})]
        table_rows = {row for report in self.reports for row in table(report.results)}
        return [(part, how) for line, how in told for part in ([line] if line in table_rows else wrapped(line, width) or [""])]

    def _next(self) -> str:
        """What to do about the first version that is kept back; where none is, about the first."""
        report = next((r for r in self.reports if r.blocks), self.reports[0])
        key = (report.model, report.version)
        if report.verdict is Verdict.PASS and (self.drift or key not in self.targets):
            return "nothing: all is well"
        step = next_step(report, stage=self._stages.get(key, ""), stored=self._stores)
        return f"{printable(report.model)} v{report.version}: {step}" if report.blocks and len(self.reports) > 1 else step

    def _report(self, key: Target) -> RunReport:
        results = tuple(self._results[key].values())
        if key not in self.targets or self.drift:
            return RunReport(key[0], key[1], results, tuple(r.gate for r in results))
        settings = self.project.settings.model(key[0])
        return RunReport(key[0], key[1], results, settings.required, settings.on_inconclusive == "warn")

    def _count_looks(self, reports: Sequence[RunReport]) -> None:
        """Mark on each version which holdout it was judged on, whatever came out: somebody has seen the numbers."""
        from pytest_mlgates.services.evaluate import look_tag

        for report in reports:
            holdout = self._subjects.get((report.model, report.version), {}).get("holdout")
            if holdout is None:
                continue
            try:
                now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
                self.project.registry.set_version_tag(report.model, report.version, look_tag(holdout["digest"]), now)
            except MlgatesError as error:
                self.notes.append(f"the look at the holdout was not counted for {report.model} v{report.version}: {error}")

    def _evidence(self, report: RunReport, *, store: bool, shown: bool) -> Evidence | None:
        """Seal what was found and store it. A partial run that found no fault says nothing new, so it replaces no evidence."""
        if store and report.missing and report.verdict is Verdict.INCONCLUSIVE:
            self.notes.append(
                f"no evidence stored for {report.model} v{report.version}: {', '.join(report.missing)} did not report"
            )
            store = False
        if not (store or shown):
            return None
        from pytest_mlgates import evidence
        from pytest_mlgates.provenance import environment, git_state
        from pytest_mlgates.services import evidence_store
        from pytest_mlgates.services.stages import Stages

        registry = self.project.registry
        try:
            version = registry.get(report.model, report.version)
            stage = Stages(registry, version.name, self.project.settings.policy.stage_mode).of(version)
            self._stages[report.model, report.version] = stage
            subject = self._subjects.get((report.model, report.version), {})
            digest = registry.artifact_digest(version)
            if subject.get("artifact_digest", digest) != digest:
                self.notes.append(f"no evidence stored for {version.label}: its files changed while it was judged; run again")
                return None
            document = evidence.build(
                report,
                model={
                    "name": version.name,
                    "version": version.version,
                    "run_id": version.run_id,
                    "artifact_digest": digest,
                    "files": registry.artifact_files(version),
                },
                holdout=subject.get("holdout", {}),
                baseline=subject.get("baseline", {}),
                settings_digest=self.project.settings.digest(report.model),
                git=git_state(self.project.folder),
                environment=environment(),
                created=dt.datetime.now(dt.UTC),
                looks=int(subject.get("looks", 1)),
                kill_score=next((r.estimate for r in report.results if r.gate == PROOF), None),
            )
            if not store:
                return document
            document = evidence_store.store(registry, version, document)
        except MlgatesError as error:
            self.notes.append(f"no evidence stored for {report.model} v{report.version}: {error}")
            return None
        self.notes.append(f"evidence {document.id} stored with the run of {version.label} (mlgates {__version__})")
        return document

    def _write_page(self, path: Path, documents: Sequence[Evidence]) -> None:
        """Write the evidence of all versions as one page."""
        from pytest_mlgates.report import html, page

        if not documents:
            self.notes.append("no page written: there is no evidence to show")
            return
        try:
            self.notes.append(f"page {page.write(path, html.evidence_report(*documents))}")
        except MlgatesError as error:
            self.notes.append(str(error))


def _gate_of(item: pytest.Item) -> tuple[str, Target | None]:
    """The gate that an item is (its own name where it carries no marker), and the version that it judges."""
    marker = item.get_closest_marker("mlgate")
    gate = str(marker.args[0]) if marker and marker.args else item.name.partition("[")[0]
    spec = getattr(item, "callspec", None)
    return gate, spec.params.get("mlgates_target") if spec is not None else None


def carried_result(report: Any) -> tuple[GateResult, dict[str, Any]] | None:
    """The result and its subject in a report's ``user_properties``."""
    for name, value in report.user_properties:
        if name == PROPERTY:
            data = json.loads(value)
            return GateResult.from_dict(data["result"]), data["subject"]
    return None


def status_of(report: pytest.TestReport) -> tuple[str, str, Any] | None:
    """Category, letter and word of a report that carries a verdict: the word is the gate's line with its numbers."""
    carried = carried_result(report)
    shown = report.when == "call" or (report.when == "setup" and report.outcome != "passed")
    if carried is None or not shown:
        return None
    result, _ = carried
    line = gate_line(result)
    if report.outcome == "failed" and result.verdict in (Verdict.PASS, Verdict.SKIP):
        return None  # the test went on after its verdict, and failed by itself
    return {
        Verdict.PASS: ("passed", ".", line),
        Verdict.FAIL: ("failed", "F", line),
        Verdict.INCONCLUSIVE: ("inconclusive", "I", (line, {"yellow": True})),
        Verdict.SKIP: ("skipped", "s", line),
        Verdict.ERROR: ("error", "E", (line, {"red": True})),
    }[result.verdict]


def _check_settings_hold(project: Project, name: str) -> None:
    """Raise ConfigError where the settings of a model name a table or file that is not there."""
    settings = project.settings.model(name)
    source = settings.holdout
    if source.endswith((".parquet", ".csv")):
        there = (project.folder / source).is_file()
        where = str(project.folder / source)
    else:
        table_name = source.partition("@")[0]
        there = project.lakehouse.exists(table_name)
        where = project.lakehouse.uri(table_name)
    if not there:
        raise ConfigError(
            f'{project.settings.path}: models."{name}".holdout: {source!r} is not there (looked at {where}); '
            f"write it, or name another table, table@VERSION, .parquet or .csv"
        )
