"""``mlgates alerts``: evaluate rules, send a test, list what was said, receive deliveries."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import TYPE_CHECKING

import click

from pytest_mlgates.cli.say import say
from pytest_mlgates.errors import EXIT_FAILED, EXIT_OK, MlgatesError, UsageProblem
from pytest_mlgates.garbage import usual_collections
from pytest_mlgates.report.text import json_text
from pytest_mlgates.wiring import Project

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_mlgates.alerts.dispatch import Delivery
    from pytest_mlgates.alerts.evaluate import EvaluationReport

_EVERY = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)?")
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


@click.group()
def alerts() -> None:
    """Evaluate alert rules, send alerts, receive them."""


@alerts.command()
@click.option("--every", help="Evaluate again and again, e.g. 60s or 5m.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def evaluate(context: click.Context, every: str | None, as_json: bool) -> int:
    """Evaluate every rule and deliver what is due, once or (--every) until it is stopped.

    Exit code 1 when a rule could not be evaluated or something could not be delivered; with --every that is said, and tried
    again the next time.
    """
    from pytest_mlgates.alerts.evaluate import evaluate as run

    project = Project.from_context(context)
    if every is None:
        report = run(project.lakehouse, project.settings)
        _print_report(report, as_json=as_json)
        return EXIT_FAILED if report.failed or report.problems else EXIT_OK
    period = _seconds(every)
    usual_collections()
    while True:
        due = time.monotonic() + period
        try:
            report = run(project.lakehouse, project.settings)
        except MlgatesError as error:  # a table that does not answer now may do so next time: who watches must not die of it
            say(f"mlgates: {error}", err=True)
        else:
            click.echo("" if as_json else f"{report.now:%Y-%m-%d %H:%M:%S} UTC  ", nl=False)
            _print_report(report, as_json=as_json)
        time.sleep(max(0.0, due - time.monotonic()))


@alerts.command()
@click.argument("rule")
@click.pass_context
def test(context: click.Context, rule: str) -> int:
    """Send a marked test message of RULE over its channels; nothing is retrained."""
    from pytest_mlgates.alerts.evaluate import send_test

    project = Project.from_context(context)
    sent = send_test(project.lakehouse, project.settings, rule)
    if not sent:
        raise UsageProblem(f"rule {rule!r} has no channels; add [[alerts.groups.NAME.channels]] and name the group in the rule")
    _print_deliveries(sent)
    return EXIT_OK if all(d.ok for d in sent) else EXIT_FAILED


@alerts.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print rows as JSON, one a line.")
@click.pass_context
def list_(context: click.Context, as_json: bool) -> int:
    """List what was said, delivered and failed, oldest first."""
    from pytest_mlgates.alerts.ledger import read

    for row in read(Project.from_context(context).lakehouse).rows:
        if as_json:
            click.echo(json_text(dataclasses.asdict(row)))
        else:
            where = f" [{row.channel}]" if row.channel else ""
            first = (row.message.splitlines() or [""])[0]
            said = f"{row.event_time:%Y-%m-%d %H:%M:%S}  {row.event:<10} {row.severity} {row.alert_id}{where}  {first}"
            say(said)
    return EXIT_OK


@alerts.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8787, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.pass_context
def serve(context: click.Context, host: str, port: int) -> int:
    """Receive alerts (POST /alerts, signed with MLGATES_WEBHOOK_SECRET) and start retrainings."""
    from pytest_mlgates.alerts.serve import serve as run

    run(Project.from_context(context).settings, host=host, port=port)
    return EXIT_OK


def _seconds(text: str) -> float:
    found = _EVERY.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise UsageProblem(f"--every {text!r} is no period; write 60s, 5m or 1h")
    return float(found[1]) * _UNIT_S[found[2]]


def _print_report(report: EvaluationReport, *, as_json: bool) -> None:
    if as_json:
        plain = dataclasses.asdict(report) | {"suppressed": sorted(report.suppressed)}
        click.echo(json_text(plain))
        return
    for one in report.transitions:
        note = "  (cool-down: no retraining)" if one.alert_id in report.suppressed else ""
        said = f"{one.event:<9} {one.severity} {one.rule}: {one.metric} of {one.model} is {one.value:.3g}, "
        say(f"{said}threshold {one.threshold:.3g}  {one.alert_id}{note}")
    if not report.transitions:
        say(f"{report.rules} rule{'s' * (report.rules != 1)} evaluated: nothing new")
    for rule, problem in report.problems.items():
        say(f"  FAILED    rule {rule} could not be evaluated: {problem}")
    _print_deliveries(report.deliveries)


def _print_deliveries(deliveries: Iterable[Delivery]) -> None:
    for one in deliveries:
        say(f"  {'delivered' if one.ok else 'FAILED':<9} {one.about} over {one.channel}: {one.detail}")
