"""The model registry: the only room that imports MLflow."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import warnings


def _keep_pyspark_from_ending_the_process() -> None:
    """Import pyspark's client once, before MLflow asks it for an active session.

    Where ``__main__`` has no file (``python -c``, an xdist worker), pyspark-client takes the process for a doctest, looks for
    a Spark home and calls ``sys.exit``. It asks only while it is imported, and an interactive prompt is an answer.
    """
    main = sys.modules.get("__main__")
    named = main is None or hasattr(main, "__file__") or getattr(main, "__spec__", None) is not None
    if named or hasattr(sys, "ps1") or importlib.util.find_spec("pyspark") is None:
        return
    sys.ps1 = ""
    try:
        with warnings.catch_warnings(), contextlib.suppress(Exception, SystemExit):
            warnings.simplefilter("ignore")
            importlib.import_module("pyspark.sql.connect.session")
    finally:
        del sys.ps1


_keep_pyspark_from_ending_the_process()
