"""``mlgates retrain``: the receiver's queue, seen and approved by a person."""

from __future__ import annotations

import getpass
import json
import time
from typing import TYPE_CHECKING

import click

from pytest_mlgates.errors import EXIT_OK
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
    for job in _inbox(context).jobs():
        if as_json:
            click.echo(json.dumps(job.to_dict()))
        else:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(job.received))
            note = (job.note.splitlines() or [""])[0]
            click.echo(f"{when}  {job.state:<10} {job.model}  {job.alert_id}  {note}")
    return EXIT_OK


@retrain.command()
@click.argument("alert_id")
@click.option("--actor", help="Who approves (default: GITHUB_ACTOR, else the login name).", envvar="GITHUB_ACTOR")
@click.pass_context
def approve(context: click.Context, alert_id: str, actor: str | None) -> int:
    """Let the retraining for ALERT_ID start: models with retrain mode "manual" wait for this."""
    job = _inbox(context).approve(alert_id, actor=actor or getpass.getuser(), now=time.time())
    click.echo(f"approved: {job.model} is retrained as soon as a receiver runs and no other retraining of it does")
    return EXIT_OK


def _inbox(context: click.Context) -> Inbox:
    from pytest_mlgates.alerts.inbox import Inbox
    from pytest_mlgates.alerts.serve import inbox_path

    return Inbox(inbox_path(Project.from_context(context).settings))
