"""Which version a selector means, read from a SQLite registry without importing MLflow.

MLflow's import alone is most of what starting an endpoint would cost. The two tables are read, never written; whatever looks unlike what is
known here (another schema, files that are not on this machine, nothing found) is left to MLflow itself, whose word also counts
when something has to be said about it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

STAGES = ("None", "Staging", "Production", "Archived")


def look_up(uri: str, model: str, selector: str) -> tuple[str, Path] | None:
    """Version and model folder that a stage (the newest in it), an ``@alias`` or a version means now; ``None``: ask MLflow.

    Parameters
    ----------
    uri
        The registry's address; only ``sqlite:///PATH`` is read here.
    """
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or not path.is_file():
        return None
    if selector.startswith("@"):
        meant = "v.version = (SELECT a.version FROM registered_model_aliases a WHERE a.name = v.name AND a.alias = ?)"
    elif selector in STAGES:
        meant = "v.current_stage = ?"
    else:
        meant = "CAST(v.version AS TEXT) = ?"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)) as database:
            rows = database.execute(
                "SELECT v.version, v.storage_location, v.source FROM model_versions v "  # noqa: S608 the parts are ours
                f"WHERE v.name = ? AND {meant} ORDER BY v.version",
                (model, selector.removeprefix("@")),
            ).fetchall()
            workspaces = database.execute("SELECT COUNT(DISTINCT workspace) FROM model_versions").fetchone()[0]
    except sqlite3.Error:
        return None
    if not rows or workspaces != 1:
        return None
    version, *places = rows[-1]
    folder = next((f for f in map(_local, places) if f is not None), None)
    return (str(version), folder) if folder is not None else None


def _local(place: str | None) -> Path | None:
    path = Path((place or "").removeprefix("file://"))
    return path if path.is_absolute() and (path / "MLmodel").is_file() else None
