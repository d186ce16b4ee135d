"""``mlgates loadtest``: drive an endpoint with Locust, judge its latency."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pytest_mlgates.cli.say import say
from pytest_mlgates.errors import EXIT_FAILED, EXIT_OK, UsageProblem


@click.command()
@click.option("--uri", help="Scoring URI, or the server's address.")
@click.option("--n", default=1000, show_default=True, type=click.IntRange(1), help="Counted calls (warm-up apart).")
@click.option("--concurrency", default=8, show_default=True, type=click.IntRange(1), help="Calls in flight at once.")
@click.option("--rate", type=float, help="Open loop: this many requests a second, whatever the server does.")
@click.option("--duration", type=float, help="Seconds of the open loop (default: --n calls if given, else 60).")
@click.option("--objective-ms", default=200.0, show_default=True, help="Limit that 99 % of the calls must keep.")
@click.option(
    "--payload", type=click.Path(path_type=Path), help="Rows to send: JSON, .csv, .parquet (default: made from /schema)."
)
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 64), help="Generator processes.")
@click.option("--master", metavar="HOST[:PORT]", help="Listen here for --workers Locust workers, on this machine or others.")
@click.option("--workers", type=click.IntRange(1, 64), help="Workers that the master waits for (a minute at most).")
@click.option("--worker", metavar="HOST[:PORT]", help="Be a worker of the master there; it says what to drive.")
@click.option("--warmup", default=50, show_default=True, type=click.IntRange(0), help="Calls before the counted ones.")
@click.option("--timeout", "timeout_s", default=30.0, show_default=True, help="Seconds until a call is an error.")
@click.option("--retry-reset", is_flag=True, help="Repeat a call once whose connection was reset.")
@click.option("--expect-version", multiple=True, help="Version an answer may carry (default: those of /health); may repeat.")
@click.option(
    "--ramp", is_flag=True, help="Search the highest rate that still holds the objective (starts at --rate, else 50/s)."
)
@click.option("--store", is_flag=True, help="Store the result with the served version's run in the project's registry.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result here.")
@click.pass_context
def loadtest(
    context: click.Context, uri: str | None, n: int, concurrency: int, rate: float | None, duration: float | None, objective_ms: float,
    payload: Path | None, processes: int, warmup: int, timeout_s: float, retry_reset: bool, expect_version: tuple[str, ...], ramp: bool,
    store: bool, json_path: Path | None, master: str | None, workers: int | None, worker: str | None,
) -> int:  # fmt: skip
    """Load-test an endpoint: percentiles with intervals, errors by kind, verdict against the objective.

    Exit code 0 for a pass, 1 for anything else (failed, inconclusive, invalid measurement).
    """
    if worker is not None:
        return _work(worker)
    if uri is None:
        raise UsageProblem("which endpoint? give --uri URI (or --worker HOST[:PORT] to work for a master)")
    if (master is None) != (workers is None):
        raise UsageProblem("--master HOST[:PORT] and --workers N belong together: the master waits for that many workers")
    if duration is not None and rate is None:
        raise UsageProblem("--duration belongs to an open loop; give --rate too")
    n_given = context.get_parameter_source("n") is ParameterSource.COMMANDLINE
    if n_given and duration is not None:
        raise UsageProblem("--n and --duration both say how long the open loop is; give one of them")
    from pytest_mlgates import load, progress
    from pytest_mlgates.results import Verdict
    from pytest_mlgates.services import load_run

    columns, rows = load_run.read_rows(payload) if payload else (None, None)
    common: dict[str, Any] = {
        "concurrency": concurrency, "objective_ms": objective_ms, "rows": rows, "columns": columns, "processes": workers or processes,
        "master": master,
        "warmup": warmup, "timeout_s": timeout_s, "retry_reset": retry_reset, "versions": list(expect_version) or None,
    }  # fmt: skip
    if ramp:
        with progress.waiting("searching the highest rate"):
            found = load_run.ramp(uri, start_per_s=rate or 50.0, step_s=duration or 5.0, **common)
        for step in found.steps:
            say(f"  {step.asked_rate_per_s:8.1f}/s  p99 {step.quantiles['p99'].value:8.1f} ms  {step.verdict.value}")
        say(f"highest rate that holds p99 < {objective_ms:g} ms: {found.best_per_s:.0f}/s")
        summary = next((s for s in reversed(found.steps) if s.verdict is Verdict.PASS), found.steps[-1])
    else:
        calls = n if rate is None or (duration is None and n_given) else max(round(rate * (duration or 60.0)), 1)
        with progress.waiting(f"{calls:,} calls"):
            summary = load_run.run(uri, n=calls, rate_per_s=rate, **common)
    click.echo(load.table(summary))
    if json_path is not None:
        json_path.write_text(json.dumps(summary.to_dict(), indent=2) + "\n", "utf-8")
    if store:
        from pytest_mlgates.wiring import Project

        say(f"stored as {load_run.store(Project.from_context(context).registry, summary)}")
    return EXIT_OK if summary.verdict is Verdict.PASS else EXIT_FAILED


def _work(master: str) -> int:
    from pytest_mlgates.services import load_drive, load_run

    load_run.need_locust()
    return load_drive.work(master)
