"""Who ran what, from which commit, in which environment."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_RECORDED = ("pytest-mlgates", "mlflow", "numpy", "pandas", "scikit-learn", "scipy", "pyarrow", "deltalake")


def git_state(folder: Path, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return ``{"sha", "branch", "dirty"}``; ``GIT_SHA`` and ``GIT_BRANCH`` stand in, empty where there is no git."""
    env = os.environ if env is None else env
    return {
        "sha": env.get("GIT_SHA") or _git(folder, "rev-parse", "HEAD"),
        "branch": env.get("GIT_BRANCH") or _git(folder, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
    }


def actor(env: Mapping[str, str] | None = None) -> str:
    """Who acts: ``GITHUB_ACTOR``, else the login name."""
    env = os.environ if env is None else env
    if env.get("GITHUB_ACTOR"):
        return env["GITHUB_ACTOR"]
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return f"uid {os.getuid()}"


def environment() -> dict[str, str]:
    """Python and the versions of the packages that decide about numbers."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in _RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],  # noqa: S607 git is found on the user's own path
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
