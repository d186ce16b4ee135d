"""What commands print: one thing, one line, whatever names are in it."""

from __future__ import annotations

import click

from pytest_mlgates.report.text import printable


def say(line: str, *, err: bool = False) -> None:
    """Print one line, on standard error where asked."""
    click.echo(printable(line), err=err)
