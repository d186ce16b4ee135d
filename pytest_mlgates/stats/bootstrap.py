"""The fall-back for metrics without a closed form: any scikit-learn scorer by name, by a Poisson bootstrap of bounded memory."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.errors import ConfigError, DataUnusable, nearest
from pytest_mlgates.stats import arrays
from pytest_mlgates.stats.arrays import Floats, NotEnough
from pytest_mlgates.stats.metrics import METRICS, Problem, hard_labels

# scorers that have a closed form here, by scikit-learn's name
ALIASES = {
    "roc_auc": "auc",
    "neg_log_loss": "log_loss",
    "neg_brier_score": "brier",
    "neg_root_mean_squared_error": "rmse",
    "neg_mean_absolute_error": "mae",
    "neg_mean_absolute_percentage_error": "mape",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Scorer:
    """A scikit-learn score function on arrays; ``higher_is_better`` tells its direction, values keep the function's own sign."""

    name: str
    function: Callable[..., float]
    higher_is_better: bool
    wants_probabilities: bool
    weighted: bool

    def inputs(self, problem: Problem, name: str, prediction: Any) -> npt.NDArray[Any]:
        """Return predictions in the form the function wants."""
        if problem.task == "regression":
            return arrays.finite(name, prediction)
        if not self.wants_probabilities:
            return hard_labels(name, problem, prediction).astype(np.int64)
        if problem.task == "binary":
            return arrays.probabilities(name, prediction)
        return arrays.class_probabilities(name, prediction, problem.classes.size)

    def value(self, target: npt.NDArray[Any], prediction: npt.NDArray[Any], weights: npt.NDArray[Any] | None = None) -> float:
        """Return the score, rows repeated ``weights`` times.

        Raises
        ------
        DataUnusable
            Whatever scikit-learn refuses, and a score that is not finite.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an undefined score is caught below, by its value
                if weights is None:
                    score = self.function(target, prediction)
                elif self.weighted:
                    kept = weights > 0
                    score = self.function(target[kept], prediction[kept], sample_weight=weights[kept])
                else:
                    score = self.function(np.repeat(target, weights, axis=0), np.repeat(prediction, weights, axis=0))
            number = float(score)
        except Exception as error:
            raise DataUnusable(f"scorer {self.name!r} refused the data: {str(error).splitlines()[0][:200]}") from error
        if not np.isfinite(number):
            raise NotEnough(f"scorer {self.name!r} is undefined on these {len(target):,} rows")
        return number


def scorer(name: str) -> Scorer:
    """Look a scorer up in scikit-learn.

    Raises
    ------
    ConfigError
        No such metric or scorer; the nearest known name is given.
    """
    from sklearn import metrics as skm

    try:
        found = skm.get_scorer(name)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        known = [*METRICS, *skm.get_scorer_names()]
        raise ConfigError(
            f"metric {name!r} is neither built in nor a scikit-learn scorer; {nearest(str(name), known)}"
        ) from error
    function, sign, kwargs = found._score_func, found._sign, found._kwargs
    response = found._response_method
    probabilities = response != "predict" and "predict_proba" in response
    return Scorer(
        name,
        functools.partial(function, **kwargs),
        sign > 0,
        probabilities,
        "sample_weight" in inspect.signature(function).parameters,
    )


def replicates(chosen: Scorer, target: npt.NDArray[Any], predictions: list[npt.NDArray[Any]], seed: int) -> Floats:
    """Return bootstrap replicates of a score for several models on the same resampled rows, shape (B, models).

    Poisson(1) weights stand for multinomial ones, so memory is O(n) whatever B is (Chamandy et al., "Estimating
    uncertainty for massive data streams", 2012). B is 300 up to 20,000 rows, then 200, and 100 past 200,000. Rows are
    put in one canonical order first: the seeded weights, and so the verdict, do not depend on the order of the rows.
    """
    keys = [np.atleast_2d(p.T if p.ndim == 2 else p) for p in predictions]
    order = np.lexsort(np.vstack([*keys, target[None, :].astype(float)]))
    target = target[order]
    predictions = [p[order] for p in predictions]
    rounds = 300 if target.size <= 20_000 else 200 if target.size <= 200_000 else 100
    rng = np.random.default_rng(seed)
    out: list[list[float]] = []
    refused = 0
    import sklearn

    while len(out) < rounds:
        weights = rng.poisson(1.0, target.size)
        try:
            # the same arrays were checked once already: what is left out here is most of a score's time
            with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
                out.append([chosen.value(target, p, weights) for p in predictions])
        except DataUnusable as error:
            refused += 1  # a resample without one of the classes, say
            if refused > rounds // 10:
                raise NotEnough(f"scorer {chosen.name!r} is undefined on too many resamples of {target.size:,} rows") from error
    return np.array(out)
