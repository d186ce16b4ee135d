"""``mlgates azure``: the alert wiring of the settings as files for Azure and Fabric."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_mlgates.errors import EXIT_OK
from pytest_mlgates.wiring import Project


@click.group()
def azure() -> None:
    """Write the alert wiring as files that Azure and Fabric take."""


@azure.command()
@click.option("--dir", "folder", default="pipelines/azure", show_default=True, type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def export(context: click.Context, folder: Path) -> int:
    """Write rule, action group, Logic App and pipeline; existing files of these names are replaced."""
    from pytest_mlgates.alerts.azure import export as files_of

    files = files_of(Project.from_context(context).settings)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
        click.echo(str(folder / name))
    return EXIT_OK
