"""Train and register the regulated reference model: ``python pipelines/train_lending.py``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pytest_mlgates.redaction import redacting
from pytest_mlgates.wiring import Project, limit_threads

limit_threads()

from pytest_mlgates.errors import MlgatesError  # noqa: E402 after the thread limit
from pytest_mlgates.reference.lending import train_lending  # noqa: E402
from pytest_mlgates.registry.tracking import MlflowTracker  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline; 0 when the models are registered."""
    arguments = _parser().parse_args(argv)
    try:
        project = Project.open(arguments.settings, create=True)
        outcome = train_lending(
            MlflowTracker(project.registry.tracking_uri, shown=project.registry.uri),
            project.lakehouse,
            seed=arguments.seed,
            intent=arguments.intent,
            judgements=arguments.with_judgements,
            baseline=not arguments.no_baseline,
        )
    except MlgatesError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(outcome.lines()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", help="settings file (default: mlgates.toml of this directory)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--no-baseline", action="store_true", help="register loan-approval alone")
    parser.add_argument(
        "--with-judgements", action="store_true", help="add the lender's own assessments (gdlin, unver) to the inputs"
    )
    parser.add_argument(
        "--intent",
        default=os.environ.get("MLFLOW_RUN_INTENT", "exploratory"),
        help="exploratory, baseline, production-candidate or rollback-test (default: MLFLOW_RUN_INTENT)",
    )
    return parser


if __name__ == "__main__":
    with redacting():
        sys.exit(main())
