"""The settings file: found, read, and every mistake in it told at once."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pytest_mlgates.config.settings import Settings
from pytest_mlgates.errors import ConfigError, nearest

SETTINGS_NAME = "mlgates.toml"
TEMPLATE = """\
# Settings of pytest-mlgates. Thresholds live here and nowhere else; relative paths are relative to this file.
tracking_uri = "sqlite:///mlflow.db"    # default: MLFLOW_TRACKING_URI
lakehouse = "lakehouse"                 # folder, abfss:// or s3://; tables are lakehouse/lh_gold/NAME

[models."churn"]                        # a model's name, or a glob such as "churn-*"
task = "binary"                         # regression | binary | multiclass
target = "churned"                      # column of the holdout that the model predicts
holdout = "lh_gold.churn_holdout"       # table, table@VERSION, or a .parquet / .csv path
baseline = "models:/churn/Production"   # what gate 1 compares with; leave it out and gate 1 judges the floor alone
domain = "telecoms"
regulated = false                       # true: the fairness gate applies
sensitive = []                          # holdout columns for it; not model inputs unless the signature has them
on_inconclusive = "block"               # or "warn"

[models."churn".gates]
performance = { metric = "auc", min_ratio = 0.95, floor = 0.75 }
holdout     = { max_gap = 0.05 }        # in standard deviations of the expected predictions
fairness    = { min_parity_ratio = 0.8 }
latency     = { p99_max_ms = 200, calls = 1000 }
calibration = { max_ece = 0.10, bins = 10 }
"""


def find_settings(start: Path) -> Path | None:
    """Return the nearest ``mlgates.toml`` (or ``pyproject.toml`` with ``[tool.mlgates]``) in ``start`` or above it."""
    for folder in (start, *start.parents):
        own = folder / SETTINGS_NAME
        if own.is_file():
            return own
        shared = folder / "pyproject.toml"
        if shared.is_file() and "mlgates" in _read_toml(shared).get("tool", {}):
            return shared
    return None


def load_settings(path: Path | None = None, *, start: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings.

    Parameters
    ----------
    path
        The file; by default `find_settings` from ``start`` (the current directory).
    env
        Environment: ``MLGATES_SETTINGS`` names the file, ``MLFLOW_TRACKING_URI`` and ``MLGATES_LAKEHOUSE`` fill in what it leaves out.

    Raises
    ------
    ConfigError
        With every mistake in ``problems``; the message is one line per mistake.
    """
    env = os.environ if env is None else env
    if path is None and env.get("MLGATES_SETTINGS"):
        path = Path(env["MLGATES_SETTINGS"])
    if path is None:
        path = find_settings((start or Path.cwd()).resolve())
    if path is None:
        raise ConfigError(
            f"no {SETTINGS_NAME} in {start or Path.cwd()} or above it, and no [tool.mlgates] in a pyproject.toml; "
            f"write one (mlgates init prints a template) or name it with --mlgates-settings PATH"
        )
    path = path.resolve()
    raw = _read_toml(path)
    if path.name == "pyproject.toml":
        raw = raw.get("tool", {}).get("mlgates", {})
    if "tracking_uri" not in raw and env.get("MLFLOW_TRACKING_URI"):
        raw["tracking_uri"] = env["MLFLOW_TRACKING_URI"]
    if "lakehouse" not in raw and env.get("MLGATES_LAKEHOUSE"):
        raw["lakehouse"] = env["MLGATES_LAKEHOUSE"]
    return parse_settings(raw, path)


def parse_settings(raw: Mapping[str, Any], path: Path | None = None) -> Settings:
    """Check settings that are already read; relative paths are made absolute. Raises ConfigError with all mistakes."""
    where = str(path) if path else "settings"
    if "models" not in raw:
        raise ConfigError(f'{where}: no [models."NAME"] table; add one with task, target and holdout')
    try:
        settings = Settings.model_validate({**raw, "path": path})
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors()]
        raise ConfigError("\n".join(f"{where}: {p}" for p in problems), problems) from None
    folder = settings.folder
    return settings.model_copy(
        update={
            "tracking_uri": _absolute_sqlite(settings.tracking_uri or "sqlite:///mlflow.db", folder),
            "lakehouse": settings.lakehouse if "://" in settings.lakehouse else str((folder / settings.lakehouse).resolve()),
        }
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such settings file; check the path, or write one (mlgates init prints a template)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _absolute_sqlite(uri: str, folder: Path) -> str:
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
        return f"{prefix}{(folder / uri.removeprefix(prefix)).resolve()}"
    return uri


_EXPECTED = {
    "bool_type": "true or false",
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def _problem(detail: ErrorDetails) -> str:
    """One mistake in one line: key, what was found, what is expected, what to do."""
    loc = [str(part) for part in detail["loc"]]
    key = ".".join(f'"{p}"' if ("." in p or "*" in p) else p for p in loc)
    found = detail.get("input")
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _known_keys(loc[:-1])
        return f"{key}: unknown key; {nearest(loc[-1], known)}"
    if kind == "missing":
        return f"{key}: missing; add it to the table"
    if kind in _EXPECTED:
        return f"{key}: expected {_EXPECTED[kind]}, got {found!r}"
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{key}: {message}"
    return f"{key}: {message[:1].lower()}{message[1:]}, got {found!r}"


def _known_keys(loc: Iterable[str]) -> list[str]:
    """Keys of the table at ``loc``, for the nearest-name hint."""
    model: Any = Settings
    parts = list(loc)
    while parts:
        part = parts.pop(0)
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        if field is None:
            return []
        inner, steps = _section_within(field.annotation)
        if inner is None:
            return []
        model, parts = inner, parts[steps:]
    return [f.alias or n for n, f in model.model_fields.items() if n != "path"]


def _section_within(annotation: Any, steps: int = 0) -> tuple[Any, int]:
    """The section that a field holds, itself or in a table or list, and how many keys or indices lie between."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, steps
    deeper = steps + (get_origin(annotation) in (dict, tuple, list))
    for argument in get_args(annotation):
        found = _section_within(argument, deeper)
        if found[0] is not None:
            return found
    return None, 0
