"""``mlgates retrain``: the receiver's queue, seen and approved by a person."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING

import click

from pytest_mlgates.cli.say import say
from pytest_mlgates.errors import EXIT_OK, UsageProblem
from pytest_mlgates.report.text import json_text
from pytest_mlgates.wiring import Project

if TYPE_CHECKING:
    from pytest_mlgates.alerts.inbox import Inbox


@click.group()
def retrain() -> None:
    """Show or approve retraining runs."""


@retrain.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print jobs as JSON, one a line.")
@click.pass_context
def list_(context: click.Context, as_json: bool) -> int:
    """List the alerts that came in and what became of them."""
    inbox = _inbox(context)
    for job in inbox.jobs() if inbox is not None else ():
        if as_json:
            click.echo(json_text(job.to_dict()))
        else:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(job.received))
            note = (job.note.splitlines() or [""])[0]
            say(f"{when}  {job.state:<10} {job.model}  {job.alert_id}  {note}")
    return EXIT_OK


@retrain.command()
@click.argument("alert_id")
@click.option("--actor", help="Who approves (default: GITHUB_ACTOR, else the login name).", envvar="GITHUB_ACTOR")
@click.pass_context
def approve(context: click.Context, alert_id: str, actor: str | None) -> int:
    """Let the retraining for ALERT_ID start: models with retrain mode "manual" wait for this."""
    inbox = _inbox(context)
    if inbox is None:
        raise UsageProblem(f"no alert {alert_id!r}: no receiver has taken an alert of this project yet (mlgates alerts serve)")
    job = inbox.approve(alert_id, actor=actor or getpass.getuser(), now=time.time())
    say(f"approved: {job.model} is retrained as soon as a receiver runs and no other retraining of it does")
    return EXIT_OK


def _inbox(context: click.Context) -> Inbox | None:
    """The receiver's queue; ``None`` where no receiver ever ran: looking makes no file."""
    from pytest_mlgates.alerts.inbox import Inbox
    from pytest_mlgates.alerts.serve import inbox_path

    path = inbox_path(Project.from_context(context).settings)
    return Inbox(path) if path.is_file() else None
