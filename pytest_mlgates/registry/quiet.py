"""MLflow, imported with the settings that it needs here, kept quiet, and its errors in one line."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator

os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")  # keeps a lock file of the current folder out of models
# MLflow's own defaults wait two minutes for a dead server and sixteen for a stalled one, in silence. These wait out a restart
# (14 seconds), and give a stalled server up within 114 seconds: less than a promotion's lease is good for
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "25")

from pytest_mlgates.garbage import rare_collections

with rare_collections(), warnings.catch_warnings():  # MLflow warns while it is imported: fatal where -W error is set
    warnings.simplefilter("ignore")
    import mlflow
    import mlflow.artifacts
    import mlflow.pyfunc
    from mlflow import MlflowClient
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

__all__ = ["MlflowClient", "MlflowException", "get_artifact_repository", "mlflow", "one_line", "quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's progress bars and deprecation notices of stages out of our output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = os.environ.get("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        try:
            yield
        finally:
            if before is None:
                os.environ.pop("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", None)
            else:
                os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = before


def one_line(error: BaseException) -> str:
    """Return what MLflow's error says, on one line of at most 300 characters."""
    text = re.sub(r" with url: \S+", "", " ".join(str(error).split()))  # long, and the cause stands behind it
    cause = re.search(r"\[Errno -?\d+\] ([\w ]+)|(Read timed out)|(Connection aborted)", text)
    if text.startswith("API request to ") and "HTTPConnectionPool" in text and cause is not None:
        return f"{next(filter(None, cause.groups()))} (is the server running? tried {_tries()})"
    return text if len(text) <= 300 else text[:297] + "…"


def _tries() -> str:
    retries = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
    return f"{retries + 1} times" if retries else "once"
