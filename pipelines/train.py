"""Train and register the slot revenue models: ``python pipelines/train.py``, then ``… --only challenger --stronger``."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from collections.abc import Sequence

from pytest_mlgates.redaction import redacting
from pytest_mlgates.wiring import Project, limit_threads

limit_threads()

from pytest_mlgates.errors import MlgatesError  # noqa: E402 after the thread limit
from pytest_mlgates.reference.train import STRONGER, SWEEP, ForestParams, train  # noqa: E402
from pytest_mlgates.registry.tracking import MlflowTracker  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline; 0 when the models are registered."""
    arguments = _parser().parse_args(argv)
    try:
        project = Project.open(arguments.settings, create=True)
        outcome = train(
            MlflowTracker(project.registry.tracking_uri, shown=project.registry.uri),
            project.lakehouse,
            seed=arguments.seed,
            params=None if arguments.sweep else _params(arguments),
            sweep=SWEEP if arguments.sweep else (),
            intent=arguments.intent,
            only=arguments.only,
            refit=arguments.refit,
            until=arguments.until,
        )
    except MlgatesError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(outcome.lines()))
    return 0


def _params(arguments: argparse.Namespace) -> ForestParams:
    start = STRONGER if arguments.stronger else ForestParams()
    return ForestParams(
        n_estimators=start.n_estimators if arguments.n_estimators is None else arguments.n_estimators,
        max_depth=start.max_depth if arguments.max_depth is None else arguments.max_depth,
        min_samples_leaf=start.min_samples_leaf if arguments.min_samples_leaf is None else arguments.min_samples_leaf,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", help="settings file (default: mlgates.toml of this directory)")
    parser.add_argument("--n-estimators", type=int, help="trees (default: 200)")
    parser.add_argument("--max-depth", type=int, help="deepest level of a tree (default: 8)")
    parser.add_argument("--min-samples-leaf", type=int, help="fewest rows in a leaf (default: 5)")
    parser.add_argument("--stronger", action="store_true", help="start from 400 trees, depth 12, leaf 2 instead")
    parser.add_argument("--sweep", action="store_true", help="try six sets of hyperparameters in child runs, register the best")
    parser.add_argument("--only", choices=["baseline", "challenger"], help="train one of the two models")
    parser.add_argument("--refit", action="store_true", help="fit the registered models on the validation rows as well")
    parser.add_argument("--until", type=dt.date.fromisoformat, help="last date to use")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--intent",
        default=os.environ.get("MLFLOW_RUN_INTENT", "exploratory"),
        help="exploratory, baseline, production-candidate or rollback-test (default: MLFLOW_RUN_INTENT)",
    )
    return parser


if __name__ == "__main__":
    with redacting():
        sys.exit(main())
