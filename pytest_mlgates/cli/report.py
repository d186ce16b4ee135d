"""``mlgates report``: the evidence of a version as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_mlgates.errors import EXIT_OK, EvidenceInvalid, MlgatesError, UsageProblem

if TYPE_CHECKING:
    from pytest_mlgates.evidence import Evidence


@click.command()
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option("--out", type=click.Path(path_type=Path), default=Path("mlgates-report.html"), show_default=True)
@click.option("--evidence", "path", type=click.Path(path_type=Path), help="A sealed document instead of NAME VERSION.")
@click.pass_context
def report(context: click.Context, name: str | None, version: str | None, out: Path, path: Path | None) -> int:
    """Write the evidence of VERSION of model NAME as one self-contained page.

    Where the registry does not answer, the newest sealed document among the artifacts in the project's folder is taken.
    """
    from pytest_mlgates.report import html, page
    from pytest_mlgates.report.text import printable
    from pytest_mlgates.services import evidence_files

    if path is not None:
        found = evidence_files.read(path)
    elif name is None or version is None:
        raise UsageProblem("name a model and a version, or a document with --evidence PATH")
    else:
        found = _stored(context, name, version)
    written = page.write(out, html.evidence_report(found))
    label = printable(f"{found.model['name']} v{found.model['version']}")
    click.echo(f"{label}: {found.verdict.upper()}, evidence {found.id}, page {written}")
    return EXIT_OK


def _stored(context: click.Context, name: str, version: str) -> Evidence:
    """The evidence of the registry; where it cannot be reached, the one on disk."""
    from pytest_mlgates.services import evidence_files, evidence_store
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    try:
        registry = project.registry
        return evidence_store.latest(registry, registry.get(name, version))
    except (UsageProblem, EvidenceInvalid):
        raise
    except MlgatesError as error:
        found = evidence_files.newest(project.folder, name, version)
        if found is None:
            raise
        click.echo(f"mlgates: {error}; taken from the artifacts in {project.folder}", err=True)
        return found
