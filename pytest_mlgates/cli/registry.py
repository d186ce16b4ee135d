"""``mlgates registry`` and ``mlgates expect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pytest_mlgates.cli.say import say
from pytest_mlgates.report.text import json_text

if TYPE_CHECKING:
    from pytest_mlgates.ports import ModelRegistry, ModelVersion

_METRICS = ("r2", "rmse", "mape", "auc", "accuracy")
_LINEAGE = ("training_data_table", "training_data_version", "holdout_table", "holdout_version", "git_sha", "intent", "rows")


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def registry(context: click.Context, name: str | None, *, as_json: bool) -> None:
    """List the versions of model NAME: stage, run, metrics, params, lineage. Without NAME, list the models."""
    from pytest_mlgates.report.text import printable
    from pytest_mlgates.wiring import Project

    store = Project.from_context(context).registry
    if name is None:
        rows: list[Any] = [{"model": n, "versions": len(store.versions(n))} for n in store.names()]
        lines = [f"{printable(r['model'])}  {r['versions']} version{'s' * (r['versions'] != 1)}" for r in rows]
    else:
        rows = [_describe(store, version) for version in store.versions(name)]
        lines = [line for row in rows for line in _lines(row)]
        lines = lines or [f"{printable(name)} has no versions"]
    click.echo(json_text(rows, indent=2) if as_json else "\n".join(lines))


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--force", is_flag=True, help="Replace predictions that are stored already.")
@click.pass_context
def expect(context: click.Context, name: str, version: str, *, force: bool) -> None:
    """Store today's predictions of a version on its holdout, as what gate 2 expects of it from now on.

    For a version that somebody else's script registered. VERSION is a number, latest, a stage or an @alias.
    """
    from pytest_mlgates.services.evaluate import EXPECTED_PREDICTIONS, Candidate, load_holdout, store_expected
    from pytest_mlgates.services.select import versions_of
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    settings = project.settings.model(name)
    found = versions_of(project.registry, name, version)[-1]
    candidate = Candidate(project.registry, found, settings)
    rows = store_expected(candidate, load_holdout(project.lakehouse, settings, project.folder), force=force)
    say(f"stored {rows:,} expected predictions of {found.label} as {EXPECTED_PREDICTIONS} with its run")


def _describe(store: ModelRegistry, version: ModelVersion) -> dict[str, Any]:
    run = store.run_info(version)
    metrics = dict(run.metrics) if run else {}
    params = dict(run.params) if run else {}
    tags = dict(run.tags) if run else {}
    return {
        "model": version.name,
        "version": version.version,
        "stage": version.stage,
        "aliases": list(version.aliases),
        "run_id": version.run_id,
        "created": version.created.isoformat() if version.created else None,
        "metrics": metrics,
        "params": {k: v for k, v in params.items() if k not in _LINEAGE},
        "lineage": {k: params.get(k, tags.get(k)) for k in _LINEAGE if params.get(k, tags.get(k)) is not None},
        "tags": {k: v for k, v in tags.items() if not k.startswith("mlflow.")},
        "verdict": version.tags.get("mlgates.verdict"),
        "evidence_id": version.tags.get("mlgates.evidence_id"),
        "warning": "" if metrics else "no metrics: it was registered outside a run; train it again inside mlflow.start_run()",
    }


def _lines(row: dict[str, Any]) -> list[str]:
    from pytest_mlgates.report.text import printable

    aliases = "".join(f" @{a}" for a in row["aliases"])
    verdict = row["verdict"] or "not judged"
    lines = [f"{row['model']} v{row['version']}  stage={row['stage']}{aliases}  gates={verdict}  run={row['run_id'] or 'none'}"]
    shown = {k: v for k, v in row["metrics"].items() if k in _METRICS} or row["metrics"]
    if shown:
        lines.append("    metrics  " + "  ".join(f"{k}={v:.6g}" for k, v in sorted(shown.items())))
    lines += [
        f"    {title:<8} " + "  ".join(f"{k}={v}" for k, v in sorted(row[title].items()))
        for title in ("params", "lineage")
        if row[title]
    ]
    if row["warning"]:
        lines.append(f"    WARNING  {row['warning']}")
    return [printable(line) for line in lines]
