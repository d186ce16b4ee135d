"""``mlgates lakehouse compact``: few large files instead of one an append, and a checkpoint."""

from __future__ import annotations

import click

from pytest_mlgates.cli.say import say
from pytest_mlgates.errors import EXIT_FAILED, EXIT_OK
from pytest_mlgates.report.text import json_text


@click.group()
def lakehouse() -> None:
    """Upkeep of the Delta tables."""


@lakehouse.command()
@click.argument("tables", nargs=-1, metavar="[SCHEMA.TABLE]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def compact(context: click.Context, tables: tuple[str, ...], *, as_json: bool) -> int:
    """Put the small files of tables together (default: of all) and write a checkpoint. No row changes.

    Append-only tables stay append-only. The audit is compacted only when its chain verifies. Old files stay for older versions
    until mlgates cleanup removes those past 168 hours. Exit code 1 when a table was left as it is.
    """
    import dataclasses

    from pytest_mlgates import progress
    from pytest_mlgates.services.compaction import chosen, compact_table
    from pytest_mlgates.services.moves import anchors
    from pytest_mlgates.tables import AUDIT
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    store = project.lakehouse
    names = chosen(store, tables)
    known = anchors(project.registry) if AUDIT in names else {}
    done = []
    for table in progress.over(names, "compacting"):
        found = compact_table(store, store, project.audit, table, known)
        done.append(found)
    for found in () if as_json else done:
        say(found.line)
    if as_json:
        click.echo(json_text([dataclasses.asdict(found) for found in done], indent=1))
    elif not done:
        click.echo("no tables")
    return EXIT_FAILED if any(found.problem for found in done) else EXIT_OK
