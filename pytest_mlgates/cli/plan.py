"""``mlgates plan``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from pytest_mlgates.report.text import json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_mlgates.checks import PlanRow


@click.command()
@click.option("--model-name", "name", required=True, metavar="NAME", help="Model to plan for.")
@click.option(
    "--model-version",
    "version",
    default="latest",
    show_default=True,
    metavar="V",
    help="Version whose predictions tell the spread: a number, latest, a stage or an @alias.",
)
@click.option("--power", default=0.8, show_default=True, metavar="P", help="Chance of the verdict, from 0.5 to below 1.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def plan(context: click.Context, name: str, version: str, *, power: float, as_json: bool) -> None:
    r"""Say per gate what size of defect today's holdout can detect, and how many rows it would need.

    \b
    detects   the mildest true value that this holdout FAILs with the stated power
    to pass   rows at which a model without the defect PASSes with that power
    to fail   rows at which a model twice as far from the ideal as the limit allows FAILs
    """
    from pytest_mlgates import progress
    from pytest_mlgates.report.text import printable
    from pytest_mlgates.services.plan import plan as planned
    from pytest_mlgates.services.select import versions_of
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    found = versions_of(project.registry, name, version)[-1]
    with progress.waiting("predicting the holdout"):
        rows = planned(project.registry, project.lakehouse, project.settings, found, power=power)
    if as_json:
        click.echo(json_text([dataclasses.asdict(row) for row in rows], indent=2))
        return
    click.echo(printable(f"{found.label}, at {100 * power:g} % power:"))
    for line in _table(rows):
        click.echo(printable(line))


def _table(rows: Sequence[PlanRow]) -> list[str]:
    from pytest_mlgates.report.terminal import columns
    from pytest_mlgates.report.text import number

    def told(count: int | None) -> str:
        return f"{count:,}" if count is not None else "–"

    cells = [("gate", "limit", "detects", "n", "to pass", "to fail")]
    cells += [
        (r.gate, number(r.threshold), number(r.detectable), f"{r.n:,}", told(r.rows_to_pass), told(r.rows_to_detect))
        for r in rows
    ]
    return [*columns(cells), "", *(f"{r.gate}, {r.measure}: {r.words}" for r in rows)]
