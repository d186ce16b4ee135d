"""``mlgates drift``: compare the current window with the reference, inject drift, suppress it, calibrate."""

from __future__ import annotations

import datetime as dt
import getpass
import sys
from typing import TYPE_CHECKING, Any

import click

from pytest_mlgates.cli.say import say
from pytest_mlgates.errors import ExtraMissing
from pytest_mlgates.report.text import json_text

if TYPE_CHECKING:
    from pytest_mlgates.services.monitor import MonitorRun
    from pytest_mlgates.wiring import Project

_MODEL = click.option("--model", "model", envvar="MODEL_NAME", required=True, metavar="NAME", help="Registered model.")


def _now(_context: Any, _parameter: Any, value: str | None) -> dt.datetime | None:
    if value is None:
        return None
    try:
        found = dt.datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no date or time; write 2026-04-27 or 2026-04-27T04:00") from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _day(_context: Any, _parameter: Any, value: str) -> dt.date:
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no date; write 2026-07-04") from None


_NOW = click.option("--now", callback=_now, help="Time of the run; the current window ends the day before it.")


@click.group(invoke_without_command=True)
@click.option("--model", "model", envvar="MODEL_NAME", metavar="NAME", help="Registered model.")
@click.option("--version", "version", help="Version, stage or @alias to watch (default: Production).")
@click.option(
    "--reference",
    help="Days (90d), 'training' (the distribution stored with the version), a .parquet path, or schema.table[@VERSION].",
)
@click.option("--current", help="Days (7d), a .parquet path, or schema.table[@VERSION].")
@click.option("--engine", type=click.Choice(["local", "spark"]), default="local", help="Who profiles the rows.")
@click.option("--force", is_flag=True, help="Write although these windows are on record already.")
@click.option("--dry-run", is_flag=True, help="Write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_NOW
@click.pass_context
def drift(context: click.Context, /, model: str | None, *, as_json: bool, **options: Any) -> None:
    """Compare the current window of a model's rows with the reference window.

    Writes lh_gold.ml_drift_metrics and, where a retrain is called for, lh_gold.ml_retrain_triggers. Exit code 0 quiet (or too
    little data to judge), 3 drift, 4 wrong call, 1 rows or a registry that cannot be read.
    """
    if context.invoked_subcommand is not None:
        return
    if not model:
        raise click.UsageError("--model NAME is missing (or set MODEL_NAME)")
    from pytest_mlgates import progress
    from pytest_mlgates.services.monitor import run_drift

    project = _project(context)
    with progress.waiting("comparing the windows"):
        run = run_drift(
            project.registry, project.lakehouse, project.settings, model, version=options["version"],
            reference_days=options["reference"], current_days=options["current"], now=options["now"], force=options["force"],
            write=not options["dry_run"], engine=_engine(options["engine"]),
        )  # fmt: skip
    if as_json:
        click.echo(json_text(run.to_dict(), indent=1))
    else:
        for line in table_lines(run):
            say(line)
    context.exit(run.exit_code)


def _project(context: click.Context) -> Project:
    from pytest_mlgates.wiring import Project

    return Project.from_context(context)


def _engine(name: str) -> Any:
    if name == "local":
        return name
    from pytest_mlgates.engines.spark import SparkEngine, start_session

    try:
        return SparkEngine(start_session())
    except ImportError as error:
        raise ExtraMissing.of(error.name or "pyspark", "spark", "--engine spark") from error


def table_lines(run: MonitorRun) -> list[str]:
    """Return the tutorial's console table."""
    lines = [
        f"  {name + ' window:':<18}{_window(window)}"
        for name, window in (("Reference", run.windows.reference), ("Current", run.windows.current))
    ]
    lines.append("  PSI per feature:")
    width = max((len(f.feature) for f in run.report.features), default=0) + 1
    lines += [f"    {feature.feature + ':':<{width}} {_feature(feature)}" for feature in run.report.features]
    prediction = run.facts.prediction
    if prediction is not None:
        lines.append(f"  Prediction drift PSI: {_feature(prediction)}")
    lines += [*_performance(run), *_concept(run)]
    lines += [f"  note: {note}" for note in run.notes]
    lines.append(f"  {run.decision.severity + ': ' if run.decision.severity else ''}{run.decision.sentence}")
    lines.append(f"  → {_outcome(run)}")
    return lines


def _window(window: Any) -> str:
    rows = f"{window.row_count:,} rows"
    if window.first is None:
        return f"{window.label}, {rows}"
    return f"{window.span_days}d ({window.first} → {window.last}), {rows}"


def _feature(feature: Any) -> str:
    if feature.verdict == "insufficient":
        shift = "" if feature.smallest_shift is None else f"; smallest shift it could show: {feature.smallest_shift:.2f} σ"
        return f"NaN   [skipped: insufficient data] ({feature.reason}{shift})"
    if feature.psi is None:
        return f"DRIFT ({feature.reason})"
    if not feature.drifted:
        word = "no drift"
        if feature.psi >= 0.10:
            word += f"; chance alone reaches {feature.psi_threshold:.2f}" if feature.psi <= feature.psi_threshold else ""
    else:
        word = "severe" if feature.psi > 0.25 else "significant" if feature.psi > 0.20 else "moderate"
        word = f"{word if feature.psi >= 0.10 else 'drift, slight'}, q {feature.q:.1e}"
    note = f"; {feature.reason}" if feature.reason else ""
    return f"{feature.psi:.2f}  ({word}{note})"


def _performance(run: MonitorRun) -> list[str]:
    performance = run.facts.performance
    if not performance.metrics:
        return [f"  Realized performance: [skipped: insufficient data] ({performance.reason})"]
    lines = []
    for found in performance.metrics:
        interval = f"99% {100 * found.low:+.1f} to {100 * found.high:+.1f}"
        unit = {"rmse": "%", "mape": " points", "auc": "% drop"}[found.metric]
        if found.verdict == "drift":
            word = "WORSE"
        elif found.improved:
            word = "better; check that the rows are alike"
        else:
            tolerance = {"rmse": "within 10% tolerance", "mape": "within 5 points", "auc": "within 5%"}[found.metric]
            limit = 0.10 if found.metric == "rmse" else 0.05
            word = tolerance if abs(found.change) <= limit else "not beyond chance" if found.change > 0 else "better"
        lines.append(f"  Realized {found.metric.upper()} delta: {100 * found.change:+.1f}{unit}  ({word}; {interval})")
    return lines


def _concept(run: MonitorRun) -> list[str]:
    concept = run.facts.concept
    if concept.rho is None:
        return [f"  Importance Spearman ρ: [skipped: insufficient data] ({concept.reason})"]
    if concept.verdict == "drift":
        word = "CONCEPT DRIFT"
    elif concept.usual_low is None:
        word = f"no verdict: {concept.reason}"
    else:
        word = "no concept drift" if concept.rho >= 0.70 else f"no concept drift: chance reaches {concept.usual_low:.2f}"
    rising = "; the error has been rising over the last runs" if concept.falling else ""
    return [f"  Importance Spearman ρ: {concept.rho:.2f} ({word}{rising})"]


def _outcome(run: MonitorRun) -> str:
    if not run.written:
        return "Nothing written: these windows are on record already, or this is a dry run (--force writes again)."
    if run.trigger is None:
        return "No retrain trigger written."
    return f"Retrain trigger written ({run.trigger['status']}): {run.trigger['reasons']}"


@drift.command()
@_MODEL
@click.option("--feature", help="Shift this feature in the newest window of the model's table (default: a metric row).")
@click.option("--factor", type=float, default=1.6, show_default=True, help="What the feature is multiplied by.")
@click.option("--value", type=float, default=0.30, show_default=True, help="Value of the metric row.")
@click.option("--metric", default="psi_overall", show_default=True, help="Name of the metric row.")
@click.option("--undo", is_flag=True, help="Put the rows of the newest injection back.")
@click.pass_context
def inject(
    context: click.Context, *, model: str, feature: str | None, factor: float, value: float, metric: str, undo: bool
) -> None:
    """Put drift there on purpose, marked as injected: a metric row, or shifted rows with --feature."""
    from pytest_mlgates.services import drift_records as records
    from pytest_mlgates.services.monitor import monitored_version

    project = _project(context)
    own = project.settings.model(model).drift
    now = dt.datetime.now(dt.UTC)
    if undo:
        done = records.undo_injection(project.lakehouse, model, now=now)
        say(f"undone {done.injection_id}: {done.what}")
        return
    if feature:
        done = records.inject_rows(project.lakehouse, own, model, feature=feature, factor=factor, now=now)
    else:
        watched = monitored_version(project.registry, model)
        done = records.inject_metric(
            project.lakehouse, model, watched.version, now=now, value=value, metric=metric,
            reference_days=own.reference_days, current_days=own.current_days,
        )  # fmt: skip
    say(f"injected {done.injection_id}: {done.what}")


@drift.command()
@click.argument("model")
@click.option("--feature", required=True, help="Input that must not alarm.")
@click.option("--reason", required=True, help="Why; shown with every run.")
@click.option("--until", required=True, callback=_day, help="First day on which it may alarm again (2026-07-04).")
@click.option("--actor", default=getpass.getuser, help="Who decided (default: the user).")
@click.pass_context
def suppress(context: click.Context, *, model: str, feature: str, reason: str, until: dt.date, actor: str) -> None:
    """Keep one feature from alarming for a while. The suppression is a row that is never deleted."""
    from pytest_mlgates.services.suppress import suppress_feature

    project = _project(context)
    now = dt.datetime.now(dt.UTC)
    found = suppress_feature(
        project.registry, project.lakehouse, project.audit, model, feature, reason=reason, until=until, actor=actor, now=now
    )
    say(f"{found}: {feature} of {model} does not alarm until {until}: {reason}")


@drift.command()
@_MODEL
@click.option("--version", help="Version, stage or @alias (default: Production).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def calibrate(context: click.Context, *, model: str, version: str | None, as_json: bool) -> None:
    """Measure how far stable past windows lie from what was before them; print limits for the settings."""
    from pytest_mlgates.services.calibrate import calibrate_limits

    project = _project(context)
    found = calibrate_limits(project.registry, project.lakehouse, project.settings, model, version=version)
    if as_json:
        click.echo(json_text(found.to_dict(), indent=1))
        return
    say(f"# {found.windows} past windows of {found.window_days} days, {found.alarms} of them would have alarmed", err=True)
    say(f'[models."{model}".drift.limits]')
    for name, limit in found.limits.items():
        say(f"{name} = {limit:.3f}")
    sys.stdout.flush()


@drift.command()
@_MODEL
@click.option("--reason", required=True, help="Why a retrain is wanted.")
@click.pass_context
def trigger(context: click.Context, *, model: str, reason: str) -> None:
    """Ask for a retrain by hand: a row in lh_gold.ml_retrain_triggers, without a cool-down."""
    from pytest_mlgates.services import drift_records as records
    from pytest_mlgates.services.monitor import monitored_version

    project = _project(context)
    watched = monitored_version(project.registry, model)
    now = dt.datetime.now(dt.UTC)
    found = records.manual_trigger(project.lakehouse, model, watched.version, reason=reason, now=now)
    say(f"{found}: retrain of {watched.label} asked for: {reason}")
