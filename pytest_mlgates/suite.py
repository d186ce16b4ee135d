"""Where the shipped suites are: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = {"gates": "_suite", "loadtest": "_loadtest", "pipelines": "_pipelines"}


def folder(name: str) -> Path:
    """Return the folder of ``gates``, ``loadtest`` or ``pipelines``. Raises FileNotFoundError for a broken installation."""
    for place in (_PACKAGE / _SHIPPED[name], _PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"pytest-mlgates was installed without its {name}; install it again")
