"""Retrain the slot revenue challenger for an alert: train, five gates, Staging only on a pass, one summary.

The receiver starts it with ``MLGATES_TRIGGER_REASON``, ``MLGATES_ALERT_ID``, ``MODEL_NAME`` and
``MLGATES_RETRAIN_RESULT`` (the file in which it says how it ended); by hand, options stand in.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_mlgates.redaction import redacting
from pytest_mlgates.wiring import Project, limit_threads

limit_threads()

from pytest_mlgates.alerts.summary import announce, secret_variables  # noqa: E402 after the thread limit
from pytest_mlgates.errors import MlgatesError, UsageProblem  # noqa: E402
from pytest_mlgates.reference.lineage import code_tags  # noqa: E402
from pytest_mlgates.reference.train import CHALLENGER, ForestParams, train  # noqa: E402
from pytest_mlgates.registry.tracking import MlflowTracker  # noqa: E402
from pytest_mlgates.services.retrain import GateRun, Retraining, Trigger, mlflow_link, retrain, run_gates, write_result  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline; 0 when the new version is in Staging, 1 when it was blocked or something did not answer."""
    with redacting():  # the receiver keeps what is printed, and this process has the channels' secrets
        try:
            return _main(argv)
        except Exception:  # noqa: BLE001 a fault that nobody foresaw: its trace is wanted, without secrets
            traceback.print_exc()
            return 1


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    trigger = Trigger(arguments.reason, arguments.alert_id or f"manual-{uuid.uuid4().hex[:20]}", arguments.rule)
    result = Path(os.environ["MLGATES_RETRAIN_RESULT"]) if os.environ.get("MLGATES_RETRAIN_RESULT") else None
    try:
        project = Project.open(arguments.settings)
        done = _retrain(project, arguments, trigger, result)
    except UsageProblem as error:
        print(f"error: {error}", file=sys.stderr)
        if result is not None:  # starting it again cannot help
            write_result(result, Retraining(arguments.model, "", "failed", str(error)))
        return error.exit_code
    except MlgatesError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(done.message)
    return 0 if done.outcome == "succeeded" else 1


def _retrain(project: Project, arguments: argparse.Namespace, trigger: Trigger, result: Path | None) -> Retraining:
    if arguments.model != CHALLENGER:
        raise UsageProblem(
            f"this pipeline trains {CHALLENGER}, not {arguments.model!r}; give that model a retrain command of its own"
        )
    secrets = secret_variables(project.settings)

    def fit(tags: Mapping[str, str]) -> str:
        outcome = train(
            MlflowTracker(project.registry.tracking_uri, shown=project.registry.uri),
            project.lakehouse,
            params=ForestParams(arguments.trees, arguments.depth, arguments.leaf),
            intent="production-candidate",
            only="challenger",
            refit=True,
            extra_tags=tags,
        )
        print("\n".join(outcome.lines()), flush=True)
        return outcome.versions[CHALLENGER]

    def judge(name: str, version: str) -> GateRun:
        run = run_gates(name, version, folder=project.folder, settings_path=project.settings.path, withhold=secrets)
        print(run.tail, flush=True)
        return run

    def tell(done: Retraining) -> None:
        announce(
            project.lakehouse,
            project.settings,
            alert_id=trigger.alert_id,
            rule=trigger.rule,
            model=done.model,
            message=done.message,
        )

    return retrain(
        project.registry,
        project.audit,
        project.settings,
        arguments.model,
        trigger=trigger,
        train=fit,
        gates=judge,
        tell=tell,
        actor=os.environ.get("GITHUB_ACTOR") or "pl_retrain_slot_revenue",
        git_sha=code_tags()["git_sha"],
        link=arguments.link or project.settings.alerts.run_link or mlflow_link(project.registry.tracking_uri),
        result=result,
    )


def _parser() -> argparse.ArgumentParser:
    env = os.environ
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", help="settings file (default: MLGATES_SETTINGS, else the nearest mlgates.toml)")
    parser.add_argument("--model", default=env.get("MODEL_NAME") or CHALLENGER)
    parser.add_argument("--reason", default=env.get("MLGATES_TRIGGER_REASON") or "manual")
    parser.add_argument("--alert-id", default=env.get("MLGATES_ALERT_ID", ""), help="the same id goes on where it stopped")
    parser.add_argument("--rule", default=env.get("MLGATES_ALERT_RULE", ""), help="alert rule, whose group is told")
    parser.add_argument(
        "--link",
        default=env.get("MLGATES_RUN_LINK", ""),
        help="address of a run's page, with {run_id} in it (default: alerts.run_link of the settings, else the MLflow server's)",
    )
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--leaf", type=int, default=5)
    return parser


if __name__ == "__main__":
    with redacting():
        sys.exit(main())
