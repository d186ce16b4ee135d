"""``mlgates quickstart``."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_mlgates.errors import EXIT_FAILED, EXIT_OK, ExtraMissing

if TYPE_CHECKING:
    from pytest_mlgates.quickstart import Outcome

_NEEDED = (
    ("locust", "load", "the load test"),
    ("gunicorn", "serve", "the endpoint"),
    ("msgspec", "serve", "the endpoint"),
    ("uvicorn", "serve", "the alert receiver"),
)


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("mlgates-quickstart"), show_default=True)
@click.option("--scale", type=click.Choice(["small", "full"]), default="small", show_default=True)
@click.option("--fresh", is_flag=True, help="Replace what an earlier quickstart left in the folder.")
def quickstart(folder: Path, scale: str, *, fresh: bool) -> int:
    """Run the whole ring once, on embedded parts, in a folder.

    synthesise → train → gates → Staging → champion/challenger → Production → endpoint → load test → drift → alert → retrain →
    gates → Staging → audit → pages. Small: 73,000 machine-days and small forests, under 4 minutes on 2 cores. Full: 1,022,000
    machine-days and the tutorial's forests. Everything stays in the folder.
    """
    from importlib.util import find_spec

    from pytest_mlgates import progress
    from pytest_mlgates import quickstart as ring
    from pytest_mlgates.report.text import printable

    for module, extra, purpose in _NEEDED:
        if find_spec(module) is None:
            raise ExtraMissing.of(module, extra, purpose)
    work = ring.Quickstart(folder, scale)
    work.prepare(fresh=fresh)
    count = len(work.steps)
    number = iter(range(1, count + 1))
    begin = time.monotonic()

    with contextlib.ExitStack() as shown:

        def told(title: str, state: str) -> None:
            shown.close()
            if state == "start":
                click.echo(f"[{next(number):>2}/{count}] {title} …")
                shown.enter_context(progress.waiting("        working"))
            else:
                click.echo(f"        {printable(state)}")

        outcomes = ring.run(work, told)
    ok = all(outcome.ok for outcome in outcomes)
    click.echo("")
    for line in _table(outcomes):
        click.echo(printable(line))
    took = f"{time.monotonic() - begin:.0f} s"
    click.echo("")
    click.echo(f"{'The ring is closed' if ok else 'The ring is NOT closed'} ({took}). Everything is in {work.folder}")
    if ok:
        click.echo(_next_steps(work.folder))
    if work.pages:
        click.echo("Pages, to open in a browser:")
    for path in work.pages:
        click.echo(f"  {path}")
    return EXIT_OK if ok else EXIT_FAILED


def _table(outcomes: list[Outcome]) -> list[str]:
    width = max(len(o.step) for o in outcomes)
    lines = [f"{'step':<{width}}  verdict  {'time':>6}  figure"]
    for outcome in outcomes:
        word = "ok" if outcome.ok else "FAILED" if outcome.figure != "not run" else "not run"
        lines.append(
            f"{outcome.step:<{width}}  {word:<7}  {outcome.seconds:>5.1f}s  {outcome.figure if word != 'not run' else ''}".rstrip()
        )
    return lines


def _next_steps(folder: Path) -> str:
    model = "casino-slot-revenue-forecast-challenger"
    return f"""Look at it, from {folder}:
  mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db
  mlgates registry {model}
  mlgates evidence show {model} 2
  mlgates audit list
  pytest --model-name {model} --model-version Staging -v
  mlgates endpoint serve --model {model} --insecure-local
  mlgates drift --model {model}"""
