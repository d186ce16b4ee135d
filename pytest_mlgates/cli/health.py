"""``mlgates readiness``, ``verify``, ``doctor`` and ``cleanup``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from typing import TYPE_CHECKING

import click

from pytest_mlgates.errors import EXIT_FAILED, EXIT_OK
from pytest_mlgates.report.text import json_text

if TYPE_CHECKING:
    from pytest_mlgates.services.readiness_facts import Facts
    from pytest_mlgates.wiring import Project


@click.command()
@click.argument("name")
@click.option("--markdown", is_flag=True, help="A table for a wiki.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@click.pass_context
def readiness(context: click.Context, name: str, *, markdown: bool, as_json: bool) -> int:
    """Judge the twelve readiness items of model NAME by evidence from the systems; exit 0 only when all hold."""
    from pytest_mlgates.report.text import in_markdown, printable
    from pytest_mlgates.services import readiness as service

    project, facts = _facts(context, name)
    items = service.judge(facts, project.settings)
    if markdown:
        click.echo(service.markdown(name, items, in_markdown), nl=False)
    elif as_json:
        click.echo(json_text([dataclasses.asdict(i) for i in items], indent=2))
    else:
        for i in items:
            click.echo(printable(f"{i.verdict.upper():<8}{i.number:>2}  {i.title}"))
            click.echo(printable(f"            {i.evidence}{f' ({i.date})' if i.date else ''}"))
        held = sum(i.verdict == service.PASS for i in items)
        click.echo(f"{held} of {len(items)} items hold")
    return EXIT_OK if all(i.verdict == service.PASS for i in items) else EXIT_FAILED


@click.command()
@click.argument("name")
@click.pass_context
def verify(context: click.Context, name: str) -> int:
    """Run the five final verifications of model NAME; exit 0 only when all pass."""
    from pytest_mlgates.report.text import printable
    from pytest_mlgates.services.verification import verify as service

    project, facts = _facts(context, name)
    checks = service(facts, project.settings)
    for check in checks:
        click.echo(printable(f"{'PASS' if check.ok else 'FAIL':<6}{check.name}: {check.found}"))
    return EXIT_OK if all(check.ok for check in checks) else EXIT_FAILED


def _facts(context: click.Context, name: str) -> tuple[Project, Facts]:
    from pytest_mlgates import progress
    from pytest_mlgates.services.readiness_facts import look
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    project.settings.model(name)
    now = dt.datetime.now(dt.UTC)
    with progress.waiting("looking at the systems"):
        return project, look(project.registry, project.lakehouse, project.audit, project.settings, name, now=now)


# a registry that is down or refuses is a finding: MLflow would ask it again for minutes
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}


@click.command()
@click.option("--explain", metavar="TEXT", help="Say which known symptom an error message is, and its fix.")
@click.pass_context
def doctor(context: click.Context, explain: str | None) -> int:
    """Look for what is wrong: registry, lakehouse, settings, endpoint, channels, schedules, clock, versions; exit 1 on a fault."""
    from pytest_mlgates import progress
    from pytest_mlgates.report.text import printable
    from pytest_mlgates.services import doctor as service
    from pytest_mlgates.wiring import Project

    if explain is not None:
        known = service.explain(explain)
        for s in known:
            click.echo(f"symptom {s.number}, {s.title}: {s.cause}\n  fix: {s.fix}")
        if not known:
            click.echo("no known symptom; mlgates doctor looks at this project itself")
        return EXIT_OK if known else EXIT_FAILED
    for name, value in _IMPATIENT.items():
        os.environ.setdefault(name, value)
    project = Project.from_context(context)
    with progress.waiting("looking at the systems"):
        findings = service.examine(
            lambda: project.registry, lambda: project.lakehouse, project.settings, now=dt.datetime.now(dt.UTC)
        )
    for f in findings:
        number = f" [symptom {f.symptom}]" if f.symptom else ""
        click.echo(printable(f"{f.state.upper():<5}{f.area:<11}{f.found}{number}"))
        if f.fix and f.state != service.OK:
            click.echo(printable(f"     {'':<11}fix: {f.fix}"))
    return EXIT_FAILED if any(f.state == service.FAIL for f in findings) else EXIT_OK


@click.command()
@click.option("--dry-run/--yes", "dry", default=True, help="Only say what would be done (the default); --yes does it.")
@click.pass_context
def cleanup(context: click.Context, *, dry: bool) -> int:
    """Pause endpoints (definitions kept), vacuum tables past 168 hours, archive runs older than 90 days.

    The audit is not touched, no run is deleted. Schedules are switched off where they are kept (gh workflow disable, crontab -e).
    """
    from pytest_mlgates import progress
    from pytest_mlgates.report.text import printable
    from pytest_mlgates.services import cleanup as service
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    steps = service.plan(project.settings, project.lakehouse, project.registry, now=dt.datetime.now(dt.UTC))
    told = [f"would {s.what}" if dry else f"{s.what}: {s.act()}" for s in progress.over(steps, "cleaning up")]
    for line in told:
        click.echo(printable(line))
    if not steps:
        click.echo("nothing to do")
    elif dry:
        click.echo(f"{len(steps)} steps; mlgates cleanup --yes does them")
    return EXIT_OK
