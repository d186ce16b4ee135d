"""Training of the slot revenue forecast: a Ridge baseline and a RandomForest challenger, registered with their lineage.

The models are fitted on the training rows; validation rows choose among hyperparameters; the holdout is only measured.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_percentage_error, r2_score, root_mean_squared_error
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pytest_mlgates import cost
from pytest_mlgates.errors import UsageProblem
from pytest_mlgates.ports import Column, TableStore, TrackedRun, Tracker
from pytest_mlgates.reference import features, lineage
from pytest_mlgates.reference.features import FEATURES, TARGET, Split
from pytest_mlgates.reference.settings import BASELINE, CHALLENGER
from pytest_mlgates.tables import FACT, HOLDOUT

EXPERIMENT = "/Shared/casino-slot-revenue-forecast"
DOMAIN = "casino"
COST_CENTER = "casino-analytics"
INPUTS = tuple(Column(name, "double") for name in FEATURES)

Metrics = dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class ForestParams:
    """Hyperparameters of the challenger.

    Attributes
    ----------
    n_estimators
        Trees.
    max_depth
        Deepest level of a tree.
    min_samples_leaf
        Fewest training rows in a leaf.
    """

    n_estimators: int = 200
    max_depth: int = 8
    min_samples_leaf: int = 5

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise UsageProblem(f"{name} is {value}; it must be at least 1")


STRONGER = ForestParams(n_estimators=400, max_depth=12, min_samples_leaf=2)
SWEEP = tuple(
    ForestParams(trees, depth, leaf) for (trees, depth), leaf in itertools.product([(200, 8), (200, 12), (400, 12)], [5, 2])
)


@dataclasses.dataclass(frozen=True, slots=True)
class Registered:
    """One registered version with the figures of its holdout; ``previous`` is the version before it, where one had figures."""

    name: str
    version: str
    run_id: str
    metrics: Mapping[str, float]
    previous: tuple[str, Mapping[str, float]] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What one training made.

    Attributes
    ----------
    baseline, challenger
        The versions; ``None`` where it was not asked for.
    rows
        Property-days that were read.
    training_version, holdout_version
        Versions of the fact table and of the holdout table.
    code
        ``git_sha``, ``git_branch`` and ``author``.
    tracking_uri
        Where the runs are, as it may be printed.
    params
        The challenger's hyperparameters (the best of a sweep).
    trials
        The sweep's validation figures, by hyperparameters.
    """

    baseline: Registered | None
    challenger: Registered | None
    rows: int
    training_version: int
    holdout_version: int
    code: Mapping[str, str]
    tracking_uri: str
    params: ForestParams
    trials: tuple[tuple[ForestParams, Mapping[str, float]], ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """Version by model name."""
        return {r.name: r.version for r in (self.baseline, self.challenger) if r is not None}

    @property
    def metrics(self) -> dict[str, Mapping[str, float]]:
        """Holdout figures by model name: ``r2``, ``rmse`` in dollars, ``mape`` as a fraction."""
        return {r.name: r.metrics for r in (self.baseline, self.challenger) if r is not None}

    def lines(self) -> list[str]:
        """The console lines."""
        code = self.code
        out = [
            f"MLflow tracking URI: {self.tracking_uri}",
            f"Experiment: {EXPERIMENT}",
            f"Code SHA: {code['git_sha']} | Branch: {code['git_branch']} | Actor: {code['author']}",
            f"Loaded {self.rows:,} rows from {FACT}",
        ]
        for params, metrics in self.trials:
            shown = f"{params.n_estimators} trees, depth {params.max_depth}, leaf {params.min_samples_leaf}"
            out.append(f"Trial ({shown}): validation {_figures(metrics)}")
        if self.baseline:
            out.append(f"Baseline (Ridge):     {_figures(self.baseline.metrics)}")
        challenger = self.challenger
        if challenger:
            alone = f"Challenger v{challenger.version}: "
            out.append(f"{'Challenger (RF):      ' if self.baseline else alone}{_figures(challenger.metrics)}")
        if challenger and challenger.previous:
            out.append(_improvement(challenger.metrics, *challenger.previous))
        width = max((len(name) for name in self.versions), default=0)
        out += [f"Registered: {name:<{width}} v{version}" for name, version in self.versions.items()]
        return out


def train(
    tracker: Tracker,
    store: TableStore,
    *,
    seed: int = 7,
    params: ForestParams | None = None,
    intent: str = "exploratory",
    only: str | None = None,
    sweep: Sequence[ForestParams] = (),
    refit: bool = False,
    until: dt.date | None = None,
    environment: str = "local",
    extra_tags: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> TrainingOutcome:
    """Train on what the fact table holds, and register the models with their lineage.

    Parameters
    ----------
    tracker, store
        Where runs are recorded, and the lakehouse.
    seed
        Seed of the forest.
    params
        Hyperparameters of the challenger; not together with ``sweep``.
    intent
        One of `lineage.INTENTS`.
    only
        ``"baseline"`` or ``"challenger"``; both when absent.
    sweep
        Hyperparameters to try, each a child run of the challenger's run; the one with the best R² on validation is registered.
    refit
        Fit the registered models on training and validation rows: a retraining must learn from the newest days.
    until
        The last date to use; all when absent.
    environment
        Tag ``environment``.
    extra_tags
        Further tags of the runs, e.g. ``trigger_reason`` and ``alert_id``.
    environ
        Instead of `os.environ` (git sha and author).

    Raises
    ------
    DataUnusable
        The fact table cannot be used (`features.property_days`, `features.split`).
    UsageProblem
        An unknown intent or model, or both ``params`` and ``sweep``.
    """
    lineage.check_intent(intent)
    if only not in (None, "baseline", "challenger"):
        raise UsageProblem(f"only is {only!r}; it must be baseline or challenger")
    if params is not None and sweep:
        raise UsageProblem("hyperparameters and a sweep were both given; give one")
    frame, version = features.property_days(store, until=until)
    features.write_features(store, frame)
    rows = features.with_lags(frame)
    parts = features.split(store, rows)
    code = lineage.code_tags(environ)
    job = _Job(
        tracker=tracker,
        parts=parts,
        tags=_tags(code, parts, version, intent, environment) | dict(extra_tags or {}),
        restated=features.restated_rows(rows, parts.holdout),
        refit=refit,
        seed=seed,
    )
    baseline: Registered | None = None
    if only != "challenger":
        with cost.metered(store, "training", BASELINE, cost_center=COST_CENTER, intent=intent) as meter:
            baseline = job.baseline()
            meter.run_id, meter.version, meter.calls = baseline.run_id, baseline.version, len(parts.train)
    chosen = params or ForestParams()
    trials: tuple[tuple[ForestParams, Metrics], ...] = ()
    challenger: Registered | None = None
    if only != "baseline":
        with cost.metered(store, "training", CHALLENGER, cost_center=COST_CENTER, intent=intent) as meter:
            challenger, chosen, trials = job.challenger(chosen, sweep)
            meter.run_id, meter.version, meter.calls = challenger.run_id, challenger.version, len(parts.train)
    return TrainingOutcome(baseline, challenger, len(frame), version, parts.holdout_version, code, tracker.uri, chosen, trials)


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """One training: the split rows, and what every run of it records."""

    tracker: Tracker
    parts: Split
    tags: Mapping[str, str]
    restated: int
    refit: bool
    seed: int

    def baseline(self) -> Registered:
        """Fit, measure and register the Ridge regression."""
        model = ridge()
        previous = self.tracker.latest(BASELINE)
        with self.tracker.run(EXPERIMENT, "baseline-ridge", tags=dict(self.tags) | {"model": BASELINE}) as run:
            run.log_params({"estimator": "Ridge", "alpha": model[-1].alpha})
            return self._record(run, BASELINE, model, previous)

    def challenger(
        self, params: ForestParams, sweep: Iterable[ForestParams]
    ) -> tuple[Registered, ForestParams, tuple[tuple[ForestParams, Metrics], ...]]:
        """Fit, measure and register the forest, after trying ``sweep`` in child runs of its run."""
        previous = self.tracker.latest(CHALLENGER)
        tags = dict(self.tags) | {"model": CHALLENGER}
        with self.tracker.run(EXPERIMENT, "challenger-forest", tags=tags) as run:
            trials = tuple((trial, self._trial(run.run_id, tags, trial)) for trial in sweep)
            if trials:
                params = max(trials, key=lambda trial: trial[1]["r2"])[0]
                run.log_params({"sweep_trials": len(trials), "sweep_metric": "r2 on validation"})
            run.log_params({"estimator": "RandomForestRegressor", **dataclasses.asdict(params)})
            return self._record(run, CHALLENGER, forest(params, self.seed), previous), params, trials

    def _trial(self, parent: str, tags: Mapping[str, str], params: ForestParams) -> Metrics:
        name = f"trial-{params.n_estimators}-{params.max_depth}-{params.min_samples_leaf}"
        with self.tracker.run(EXPERIMENT, name, tags=dict(tags) | {"mlgates.trial": "true"}, parent=parent) as run:
            run.log_params(dataclasses.asdict(params))
            model = fit(forest(params, self.seed), self.parts.train)
            metrics = measure(model, self.parts.validation)
            run.log_metrics({f"validation_{key}": value for key, value in metrics.items()})
            return metrics

    def _record(self, run: TrackedRun, name: str, model: Any, previous: tuple[str, Mapping[str, float]] | None) -> Registered:
        parts = self.parts
        fit(model, parts.train)
        validation = measure(model, parts.validation)
        rows = parts.train
        if self.refit:  # validation figures stay those of rows the model had not seen
            rows = pd.concat([parts.train, parts.validation], ignore_index=True)
            fit(model, rows)
        metrics = {"train": measure(model, rows), "validation": validation, "holdout": measure(model, parts.holdout)}
        run.log_params(self._params(rows))
        run.log_metrics(metrics["holdout"])
        run.log_metrics({f"{part}_{key}": value for part in metrics for key, value in metrics[part].items()})
        lineage.log_artifacts(
            run,
            holdout=parts.holdout,
            expected=predict(model, parts.holdout),
            training=rows,
            row_columns=[*FEATURES, TARGET],
            training_predictions=predict(model, rows),
            metrics=metrics,
        )
        version = run.register(model, name, inputs=INPUTS, requirements=lineage.requirements(), tags=_version_tags(self.tags))
        return Registered(name, version, run.run_id, metrics["holdout"], previous)

    def _params(self, rows: pd.DataFrame) -> dict[str, object]:
        parts = self.parts
        return {
            **{key: self.tags[key] for key in _DATA_TAGS},
            "seed": self.seed,
            "features": ",".join(FEATURES),
            "target": TARGET,
            "split": "70/15/15 by date",
            "refit": self.refit,
            "train_rows": len(parts.train),
            "validation_rows": len(parts.validation),
            "holdout_rows": len(parts.holdout),
            "fitted_rows": len(rows),
            "train_start": rows.play_date.min(),
            "train_end": rows.play_date.max(),
            "holdout_start": parts.holdout.play_date.min(),
            "holdout_end": parts.holdout.play_date.max(),
            "holdout_restated_rows": self.restated,
        }


_DATA_TAGS = ("training_data_table", "training_data_version", "holdout_table", "holdout_version", "rows")


def ridge() -> Pipeline:
    """The baseline: the scaler is part of the model, so that raw inputs can be sent to it."""
    return make_pipeline(StandardScaler(), Ridge(alpha=1.0))


def forest(params: ForestParams, seed: int) -> RandomForestRegressor:
    """The challenger; one job, because a pool of threads triples the time of a single-row prediction."""
    return RandomForestRegressor(**dataclasses.asdict(params), random_state=seed, n_jobs=1)


def fit(model: Any, rows: pd.DataFrame) -> Any:
    """Fit on the inputs and target of ``rows``; return the model."""
    return model.fit(rows[FEATURES], rows[TARGET].to_numpy())


def predict(model: Any, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Predicted revenue in dollars, shape (n,)."""
    return np.asarray(model.predict(rows[FEATURES]), dtype=np.float64)


def measure(model: Any, rows: pd.DataFrame) -> Metrics:
    """Return ``r2``, ``rmse`` in dollars and ``mape`` as a fraction of the actual revenue."""
    actual, predicted = rows[TARGET].to_numpy(), predict(model, rows)
    return {
        "r2": float(r2_score(actual, predicted)),
        "rmse": float(root_mean_squared_error(actual, predicted)),
        "mape": float(mean_absolute_percentage_error(actual, predicted)),
    }


def _tags(code: Mapping[str, str], parts: Split, version: int, intent: str, environment: str) -> dict[str, str]:
    return {
        **code,
        "training_data_table": FACT,
        "training_data_version": str(version),
        "holdout_table": HOLDOUT,
        "holdout_version": str(parts.holdout_version),
        "rows": str(len(parts.train) + len(parts.validation) + len(parts.holdout)),
        "intent": intent,
        "domain": DOMAIN,
        "environment": environment,
        "cost_center": COST_CENTER,
    }


def _version_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: tags[key] for key in ("intent", "git_sha", "trigger_reason", "alert_id") if key in tags}


def _figures(metrics: Mapping[str, float]) -> str:
    return f"R²={metrics['r2']:.2f}  RMSE=${metrics['rmse']:,.0f}  MAPE={metrics['mape']:.1%}"


def _improvement(now: Mapping[str, float], version: str, before: Mapping[str, float]) -> str:
    """Relative change of R² and RMSE; R² in points where the version before was no better than a constant."""
    if "r2" not in before or "rmse" not in before:
        return f"Improvement vs v{version}: not known, its run has no r2 and rmse"
    change = (
        f"{(now['r2'] - before['r2']) / before['r2']:+.1%} R²" if before["r2"] > 0 else f"{now['r2'] - before['r2']:+.2f} R²"
    )
    return f"Improvement vs v{version}: {change}, {(now['rmse'] - before['rmse']) / before['rmse']:+.1%} RMSE"
