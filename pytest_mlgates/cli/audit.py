"""``mlgates audit``: list, verify, export, archive."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_mlgates.cli.say import say
from pytest_mlgates.errors import EXIT_FAILED, EXIT_OK, UsageProblem
from pytest_mlgates.promotion.machine import STAGES

if TYPE_CHECKING:
    from pytest_mlgates.audit import AuditRow

_STATES = ("intent", "committed", "aborted", "refused", "observed", "archived")


@click.group()
def audit() -> None:
    """List, verify, export or archive the promotion audit."""


def _filters(command: click.decorators.FC) -> click.decorators.FC:
    for option in (
        click.option("--until", help="Rows before this day (YYYY-MM-DD, UTC)."),
        click.option("--since", help="Rows from this day on (YYYY-MM-DD, UTC)."),
        click.option("--state", type=click.Choice(_STATES), help="Rows of this state."),
        click.option(
            "--stage",
            type=click.Choice([*STAGES, "Deleted"], case_sensitive=False),
            help="Rows that leave or enter this stage.",
        ),
        click.option("--model", help="Rows of this model."),
    ):
        command = option(command)
    return command


@audit.command("list")
@_filters
@click.option("--limit", default=50, show_default=True, help="Newest rows to show.")
@click.pass_context
def list_(
    context: click.Context,
    model: str | None,
    stage: str | None,
    state: str | None,
    since: str | None,
    until: str | None,
    limit: int,
) -> int:
    """Show who moved what, when and why, newest last."""
    from pytest_mlgates.wiring import Project

    found = Project.from_context(context).audit.rows(model, stage=stage, state=state, since=_day(since), until=_day(until))
    for row in found[-limit:] if limit > 0 else []:
        event = row.event
        move = f"{event.from_stage} -> {event.to_stage}"
        when = row.event_time.strftime("%Y-%m-%d %H:%M:%S")
        line = f"{row.seq:>5}  {when}  {event.state:<9}  {event.model_name} v{event.version}  {move}  {event.actor}  {event.rationale}"
        say(line)
    if len(found) > limit:
        say(f"… {len(found) - limit} older rows; --limit {len(found)} shows all", err=True)
    return EXIT_OK


@audit.command()
@click.option(
    "--anchor", "anchor_files", multiple=True, type=click.Path(), help="File with an anchor kept outside (repeatable)."
)
@click.option("--write-anchor", type=click.Path(), help="Write the head's anchor to this file, to be kept as a CI artifact.")
@click.pass_context
def verify(context: click.Context, anchor_files: tuple[str, ...], write_anchor: str | None) -> int:
    """Walk the hash chain and compare its head with every anchor: the tags of the registered models and --anchor files."""
    from pytest_mlgates.audit import anchor
    from pytest_mlgates.services.moves import anchors as anchors_of
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    anchors = anchors_of(project.registry)
    for path in anchor_files:
        try:
            anchors[path] = Path(path).read_text("utf-8")
        except OSError as error:
            raise UsageProblem(f"{path} cannot be read: {error.strerror}; name a file made by --write-anchor") from None
        except UnicodeDecodeError:
            raise UsageProblem(f"{path} is no text; name a file made by --write-anchor") from None
    report = project.audit.verify(anchors)
    for note in report.notes:
        say(f"note: {note}", err=True)
    if not report.ok:
        say(f"audit BROKEN: {report.problem}", err=True)
        return EXIT_FAILED
    from pytest_mlgates.services.audit_archive import check_cold_files

    problems = check_cold_files(project.audit)
    for problem in problems:
        say(f"audit BROKEN: {problem}", err=True)
    if problems:
        return EXIT_FAILED
    if write_anchor:
        try:
            Path(write_anchor).write_text(anchor(report.head_seq, report.head_hash), "utf-8")
        except OSError as error:
            raise UsageProblem(
                f"cannot write {write_anchor}: {error.strerror or error}; name a file in a folder that is there"
            ) from None
    say(f"audit verified: {report.rows} rows, head {report.head_seq} {report.head_hash[:19]}…, {report.anchors} anchors agree")
    return EXIT_OK


@audit.command()
@_filters
@click.option("--format", "kind", type=click.Choice(["csv", "jsonl", "parquet"]), required=True)
@click.option("--output", type=click.Path(), required=True, help="File to write.")
@click.pass_context
def export(
    context: click.Context,
    model: str | None,
    stage: str | None,
    state: str | None,
    since: str | None,
    until: str | None,
    kind: str,
    output: str,
) -> int:
    """Write rows to a file, with their hashes. CSV cells that a spreadsheet would run as a formula are prefixed with '."""
    from pytest_mlgates.services.audit_export import write
    from pytest_mlgates.wiring import Project

    rows: list[AuditRow] = Project.from_context(context).audit.rows(
        model, stage=stage, state=state, since=_day(since), until=_day(until)
    )
    write(rows, Path(output), kind)
    say(f"{len(rows)} rows written to {output}")
    return EXIT_OK


@audit.command()
@click.option("--actor", default="", help="Who acts (default: GITHUB_ACTOR, else the login name).")
@click.option("--today", help="The day it is (YYYY-MM-DD, UTC): asked for where the newest row is more than 90 days old.")
@click.pass_context
def archive(context: click.Context, actor: str, today: str | None) -> int:
    """Move rows past their retention (7 years for a regulated model, 1 year otherwise) to cold files; never younger ones.

    The age of a row is told by this machine's clock. Where that is far ahead of the newest row, --today must confirm it.
    """
    from pytest_mlgates import provenance
    from pytest_mlgates.services.audit_archive import archive as move_old_rows
    from pytest_mlgates.services.audit_archive import clock_doubt
    from pytest_mlgates.services.moves import anchors
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    now = dt.datetime.now(dt.UTC)
    said = _day(today)
    if said is not None and said.date() != now.date():
        raise UsageProblem(f"--today {today} is not what this machine's clock says ({now:%Y-%m-%d}); set the clock right")
    doubt = "" if said is not None else clock_doubt(project.audit.rows(), now)
    if doubt:
        raise UsageProblem(doubt)
    done = move_old_rows(
        project.audit,
        project.settings,
        now=now,
        actor=actor or provenance.actor(),
        anchors=anchors(project.registry),
    )
    say(f"{done.rows} rows moved to {done.file}" if done.rows else "no row is past its retention")
    return EXIT_OK


def _day(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageProblem(f"{text!r} is not a date; write YYYY-MM-DD, or YYYY-MM-DDTHH:MM:SS+00:00") from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
