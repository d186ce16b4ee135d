"""What the working tree's settings loosen against those of a commit."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlgates.config import parse_settings
from pytest_mlgates.errors import ConfigError
from pytest_mlgates.promotion.loosening import Change, compare

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings


def changes_since(settings: Settings, base_ref: str) -> list[Change]:
    """Compare the settings in force with those of a commit.

    Parameters
    ----------
    base_ref
        Commit, branch or tag, such as ``origin/main``.

    Raises
    ------
    ConfigError
        No such commit, no settings file in it, or one that is not valid.
    """
    if settings.path is None:
        raise ConfigError("these settings were built in code, so no commit has them; call this with a settings file")
    folder, name = settings.path.parent, settings.path.name
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base_ref}^{{commit}}")
    if commit is None:
        raise ConfigError(f"{base_ref!r} is no commit of the repository at {folder}; fetch it, or name another (origin/main)")
    text = _git(folder, "show", f"{commit.strip()}:./{name}")
    if text is None:
        raise ConfigError(f"commit {base_ref} has no {name}, so there is nothing to compare with; name a commit that has it")
    return compare(_parse(text, settings.path, base_ref), settings)


def _parse(text: str, path: Path, base_ref: str) -> Settings:
    try:
        raw = tomllib.loads(text)
        if path.name == "pyproject.toml":
            raw = raw.get("tool", {}).get("mlgates", {})
        for key, variable in (("lakehouse", "MLGATES_LAKEHOUSE"), ("tracking_uri", "MLFLOW_TRACKING_URI")):
            if os.environ.get(variable):  # as the settings in force are filled in
                raw.setdefault(key, os.environ[variable])
        return parse_settings(raw, path)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} of commit {base_ref} is not valid TOML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path.name} of commit {base_ref}: {error}", error.problems) from None


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],  # noqa: S607 git is found on the user's own path
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"git did not answer in {folder}: {error}; install git, or call this inside the repository") from None
    return done.stdout if done.returncode == 0 else None
