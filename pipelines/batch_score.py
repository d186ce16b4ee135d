"""Score the rows that have no score yet: ``python pipelines/batch_score.py --model NAME``, nightly.

The model is named by stage (``models:/NAME/Production``), never by number; the version that scored is written beside each
score. A run that was killed is finished by the next one; two at once give each row one score.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from pytest_mlgates.redaction import redacting
from pytest_mlgates.wiring import Project, limit_threads

limit_threads()

from pytest_mlgates.errors import ExtraMissing, MlgatesError  # noqa: E402 after the thread limit
from pytest_mlgates.ports import ModelVersion  # noqa: E402
from pytest_mlgates.services.score import BATCH_ROWS, Predict, Tables, score  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline; 0 when every row that can be scored is."""
    arguments = _parser().parse_args(argv)
    try:
        project = Project.open(arguments.settings)
        tables = Tables(arguments.source, arguments.target, tuple(arguments.keys.split(",")), arguments.prediction)
        done = score(
            project.registry,
            project.lakehouse,
            project.settings,
            arguments.model,
            stage=arguments.stage,
            tables=tables,
            engine=_spark(project) if arguments.engine == "spark" else None,
            batch_rows=arguments.batch_rows,
            log=not arguments.no_log,
        )
    except MlgatesError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(done.line())
    return 0


def _spark(project: Project) -> Callable[[ModelVersion], Predict]:
    try:
        from pytest_mlgates.engines.spark import spark_predict, start_session

        session = start_session()
    except ImportError as error:
        raise ExtraMissing.of(error.name or "pyspark", "spark", "--engine spark") from error

    def predict(version: ModelVersion) -> Predict:
        uri = f"models:/{version.name}/{version.version}"  # mlgates: allow-pin the version that the stage names now
        return spark_predict(session, project.registry.tracking_uri, uri)

    return predict


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = Tables()
    parser.add_argument("--settings", help="settings file (default: mlgates.toml of this directory)")
    model = os.environ.get("MODEL_NAME")
    parser.add_argument("--model", default=model, required=not model, help="registered model (default: MODEL_NAME)")
    parser.add_argument("--stage", default="Production", help="stage or @alias (default: Production)")
    parser.add_argument("--engine", choices=["local", "spark"], default="local", help="who scores (default: this process)")
    parser.add_argument("--source", default=defaults.source, help="table of the rows")
    parser.add_argument("--target", default=defaults.target, help="table of the scores")
    parser.add_argument("--keys", default=",".join(defaults.keys), help="columns that name a row, with commas between")
    parser.add_argument("--prediction", default=defaults.prediction, help="column of the score")
    parser.add_argument("--batch-rows", type=int, default=BATCH_ROWS, help="rows of one commit")
    parser.add_argument("--no-log", action="store_true", help="leave the prediction log alone")
    return parser


if __name__ == "__main__":
    with redacting():
        sys.exit(main())
