"""``mlgates init``."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_mlgates.config import SETTINGS_NAME, TEMPLATE
from pytest_mlgates.errors import ConfigError


@click.command()
@click.option("--write", is_flag=True, help=f"Write {SETTINGS_NAME} here instead of printing it.")
def init(*, write: bool) -> None:
    """Print a template of mlgates.toml, every line of it explained."""
    if not write:
        click.echo(TEMPLATE, nl=False)
        return
    path = Path(SETTINGS_NAME)
    if path.exists():
        raise ConfigError(f"{path.resolve()} is there already; move it away first, nothing was written")
    path.write_text(TEMPLATE, "utf-8")
    click.echo(f"wrote {path.resolve()}; name your model, its target and its holdout in it")
