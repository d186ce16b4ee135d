"""Gate proving: known-bad mutants of a candidate are put before the configured gates, and every one that passes is named.

Pure: arrays and functions in, a frozen report out. Whoever knows the registry builds a `Suspect` of the candidate and a
function that runs the configured gates on a suspect (`checks.gate_runner` makes one from arrays and thresholds), and calls
`prove`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.stats import Problem, arrays, group_codes, named_columns

Array = npt.NDArray[Any]

NOISE = 0.75  # of the target's standard deviation; for probabilities four times that on the log-odds
SLOW_CALL_S = 0.5
SLOW_EVERY = 20


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A model version as the gates see it; mutants are copies with something changed.

    Attributes
    ----------
    y_pred : ndarray, shape (n,) or (n, classes)
        Predictions on the holdout.
    expected_pred : ndarray or None
        Predictions stored with the version. A mutant's are its own, as if it had been registered so; only *stale* keeps
        old ones.
    train_hashes, holdout_hashes : ndarray of int64 or None
        See `checks.row_hashes`.
    seconds : ndarray or None
        Measured durations of single-row calls; without them the slow mutant is not built.
    """

    y_pred: Array
    expected_pred: Array | None = None
    train_hashes: Array | None = None
    holdout_hashes: Array | None = None
    seconds: Array | None = None


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A known-bad version: stable name, what was done to it with its size, and the suspect it became."""

    name: str
    what: str
    suspect: Suspect


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the gates said of one mutant.

    ``killed_by`` names the gates that judged it worse than the candidate and block it; for a survivor ``would_kill``
    says which threshold would have.
    """

    name: str
    what: str
    killed_by: tuple[str, ...]
    verdicts: Mapping[str, str]
    would_kill: str = ""

    @property
    def survived(self) -> bool:
        """Whether no gate killed it."""
        return not self.killed_by


@dataclasses.dataclass(frozen=True)
class ProofReport:
    """All mutants, and the verdicts of the candidate itself."""

    outcomes: tuple[Outcome, ...]
    candidate: Mapping[str, str]

    @property
    def kill_score(self) -> float:
        """Share of the mutants that some gate killed, 0 to 1; 0 where none could be built."""
        return sum(not o.survived for o in self.outcomes) / len(self.outcomes) if self.outcomes else 0.0

    @property
    def survivors(self) -> tuple[Outcome, ...]:
        """Mutants that every gate let pass."""
        return tuple(o for o in self.outcomes if o.survived)

    @property
    def summary(self) -> str:
        """One line for the terminal."""
        killed = len(self.outcomes) - len(self.survivors)
        line = f"gate-kill score {100 * self.kill_score:.0f} % ({killed} of {len(self.outcomes)} mutants killed)"
        return line + (f"; survived: {', '.join(o.name for o in self.survivors)}" if self.survivors else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values, for the evidence."""
        return {
            "kill_score": self.kill_score,
            "candidate": dict(self.candidate),
            "mutants": [
                {
                    "name": o.name,
                    "what": o.what,
                    "killed_by": list(o.killed_by),
                    "verdicts": dict(o.verdicts),
                    "would_kill": o.would_kill,
                }
                for o in self.outcomes
            ],
        }


Runner = Callable[[Suspect], Sequence[GateResult]]


def prove(candidate: Suspect, mutants: Sequence[Mutant], run: Runner, *, inconclusive_blocks: bool = True) -> ProofReport:
    """Run the configured gates on the candidate and on every mutant.

    Parameters
    ----------
    candidate
        The version under test.
    mutants
        From `mutants_of`, or a caller's own.
    run
        Runs the configured gates on a suspect.
    inconclusive_blocks
        Whether INCONCLUSIVE keeps a version back (``on_inconclusive = "block"``).

    Notes
    -----
    A gate kills a mutant when its verdict blocks and is worse than the same gate's verdict on the candidate: a gate
    that blocks everything proves nothing.
    """
    own = {r.gate: r for r in run(candidate)}
    outcomes = []
    for mutant in mutants:
        found = list(run(mutant.suspect))
        killed = tuple(r.gate for r in found if _kills(r, own.get(r.gate), inconclusive_blocks))
        told = "" if killed else _would_kill(mutant, found, own)
        outcomes.append(Outcome(mutant.name, mutant.what, killed, {r.gate: r.verdict.value for r in found}, told))
    return ProofReport(tuple(outcomes), {name: r.verdict.value for name, r in own.items()})


def mutants_of(
    candidate: Suspect,
    y_true: Any,
    *,
    task: str,
    frame: Any = None,
    predict: Callable[[Any], Any] | None = None,
    sensitive: Any = None,
    positive: Any = None,
    seed: int = 39,
) -> tuple[Mutant, ...]:
    """Build the known-bad mutants that can be built from what is given.

    Parameters
    ----------
    candidate
        With predictions on the holdout.
    y_true : array-like, shape (n,)
        Outcomes.
    task
        ``regression``, ``binary`` or ``multiclass``.
    frame, predict
        The holdout's inputs and the model: for the mutant that drops its most telling feature.
    sensitive
        Protected attributes as `checks.fairness` takes them: for the mutant that shifts one group.
    positive
        Positive label of a binary task.
    seed
        Of shuffling and noise.

    Raises
    ------
    DataUnusable
        Predictions that are not finite numbers.
    """
    rng = np.random.default_rng(seed)
    prediction = arrays.finite("y_pred", candidate.y_pred, columns=True)
    problem = Problem.of(task, y_true, positive=positive)
    arrays.same_length(y_true=problem.target, y_pred=prediction)
    made = [
        ("shuffled", "predictions given to the wrong rows", prediction[rng.permutation(len(prediction))]),
        ("constant", "the mean prediction for every row", np.broadcast_to(prediction.mean(axis=0), prediction.shape).copy()),
        ("noisy", _noise_words(task), _noisy(prediction, problem.target, task, rng)),
        (
            "overconfident",
            "distance from the mean doubled" if task == "regression" else "log-odds × 4",
            _sharpen(prediction, task, 4.0),
        ),
        (
            "underconfident",
            "distance from the mean halved twice" if task == "regression" else "log-odds ÷ 4",
            _sharpen(prediction, task, 0.25),
        ),
        (
            "trained on the holdout",
            "answers 98 % of the way to the outcome, its rows in the training data",
            _peeked(prediction, problem),
        ),
    ]
    if sensitive is not None and task != "multiclass" and (shifted := _shift_group(prediction, sensitive, task)) is not None:
        made.append(shifted)
    if frame is not None and predict is not None and (dropped := _drop_feature(frame, predict, prediction)) is not None:
        made.append(dropped)
    out = [Mutant(name, what, _registered(candidate, values, peeked=name.startswith("trained"))) for name, what, values in made]
    if candidate.expected_pred is not None:
        stale = prediction + 0.01 * prediction.std() * rng.normal(size=prediction.shape)
        out.append(
            Mutant(
                "stale expected predictions",
                "stored ones off by 1 % of their spread",
                dataclasses.replace(candidate, expected_pred=stale),
            )
        )
    if candidate.seconds is not None:
        slow = np.array(candidate.seconds, dtype=float)
        slow[::SLOW_EVERY] += SLOW_CALL_S
        words = f"every {SLOW_EVERY}th call {SLOW_CALL_S * 1e3:g} ms slower"
        out.append(Mutant("slow", words, dataclasses.replace(candidate, seconds=slow)))
    return tuple(out)


# ---- how mutants are made ----


def _registered(candidate: Suspect, values: Array, *, peeked: bool) -> Suspect:
    """Return the candidate with other predictions, stored as its own."""
    expected = None if candidate.expected_pred is None else values
    train = candidate.train_hashes
    if peeked and candidate.holdout_hashes is not None:
        train = candidate.holdout_hashes if train is None else np.concatenate([train, candidate.holdout_hashes])
    return dataclasses.replace(candidate, y_pred=values, expected_pred=expected, train_hashes=train)


def _noise_words(task: str) -> str:
    if task == "regression":
        return f"noise of {NOISE:g} standard deviations of the target"
    return f"noise of {4 * NOISE:g} on the log-odds"


def _noisy(prediction: Array, target: Array, task: str, rng: np.random.Generator) -> Array:
    if task == "regression":
        return prediction + NOISE * float(target.std()) * rng.normal(size=prediction.shape)
    return _from_log_odds(_log_odds(prediction) + 4 * NOISE * rng.normal(size=prediction.shape))


def _sharpen(prediction: Array, task: str, factor: float) -> Array:
    if task == "regression":
        middle = prediction.mean()
        return np.asarray(middle + (2.0 if factor > 1 else 0.25) * (prediction - middle))
    return _from_log_odds(factor * _log_odds(prediction))


def _log_odds(prediction: Array) -> Array:
    """Log-odds of probabilities; of a table its logarithms, which a softmax turns back."""
    if prediction.min() < 0 or prediction.max() > 1:
        raise DataUnusable(f"predictions run from {prediction.min():.3g} to {prediction.max():.3g}, expected probabilities")
    p = np.clip(prediction, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p) if p.ndim == 2 else np.log(p) - np.log1p(-p))


def _from_log_odds(odds: Array) -> Array:
    if odds.ndim == 1:
        return np.asarray(1 / (1 + np.exp(-np.clip(odds, -700, 700))))
    weights = np.exp(odds - odds.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _peeked(prediction: Array, problem: Any) -> Array:
    truth = np.eye(prediction.shape[1])[problem.target.astype(int)] if prediction.ndim == 2 else problem.target.astype(float)
    return np.asarray(prediction + 0.98 * (truth - prediction))


def _shift_group(prediction: Array, sensitive: Any, task: str) -> tuple[str, str, Array] | None:
    columns = named_columns(sensitive, "sensitive")
    for name, values in columns.items():
        groups, codes = group_codes(values)
        if len(groups) < 2 or len(codes) != len(prediction):
            continue
        # the larger the group, the surer a gate must be: the second largest is neither trivial nor hopeless
        order = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(groups)))
        here = codes == order[1]
        shifted = prediction.astype(float).copy()
        if task == "regression":
            shifted[here] += 2.0 * prediction.std()
            return "group shifted", f"{name}={groups[order[1]]}: predictions two standard deviations higher", shifted
        odds = _log_odds(prediction if prediction.ndim == 1 else prediction[:, -1])
        odds[here] -= 4.0
        p = _from_log_odds(odds)
        return (
            "group shifted",
            f"{name}={groups[order[1]]}: log-odds 4 lower",
            p if prediction.ndim == 1 else np.column_stack([1 - p, p]),
        )
    return None


def _drop_feature(frame: Any, predict: Callable[[Any], Any], prediction: Array) -> tuple[str, str, Array] | None:
    """Return predictions with the feature that moves them most put to its most frequent value, or its mean."""
    best: tuple[float, str, Array] | None = None
    for name in frame.columns:
        column = frame[name]
        if column.dtype.kind == "f":
            usual: Any = float(np.nanmean(column.to_numpy()))
        else:
            usual = column.mode(dropna=True).iloc[0] if column.notna().any() else None
        blind = frame.copy()
        blind[name] = usual
        if column.dtype.kind in "iu":
            blind[name] = blind[name].astype(column.dtype)
        answer = arrays.finite(f"the prediction without {name}", predict(blind), columns=True)
        if answer.shape != prediction.shape:
            return None
        moved = float(np.abs(answer - prediction).mean())
        if best is None or moved > best[0]:
            best = (moved, str(name), answer)
    if best is None or best[0] == 0:
        return None
    return "feature dropped", f"{best[1]}, its most telling input, held at its usual value", best[2]


# ---- what would have killed a survivor ----

_SETTING = {
    "performance": "floor",
    "fairness": "min_parity_ratio",
    "latency": "p99_max_ms",
    "calibration": "max_ece",
    "holdout": "max_gap",
    "weak_slices": "max_ratio",
}
_REMEDY = {
    "trained on the holdout": "store training row hashes with the version (mlgates/training_rows.parquet), so that gate 2 sees shared rows",
    "stale expected predictions": "hold gate 2 to exact agreement with the stored predictions",
    "slow": "measure latency (gate 4)",
    "group shifted": "declare the model regulated and its sensitive columns, so that gate 3 applies",
}
_RANK = {Verdict.PASS: 0, Verdict.SKIP: 0, Verdict.INCONCLUSIVE: 1, Verdict.FAIL: 2, Verdict.ERROR: 2}


def _kills(found: GateResult, own: GateResult | None, inconclusive_blocks: bool) -> bool:
    blocks = found.verdict.blocks and (inconclusive_blocks or found.verdict is not Verdict.INCONCLUSIVE)
    return blocks and (own is None or _RANK[found.verdict] > _RANK[own.verdict])


def _bounds(result: GateResult) -> tuple[float, float] | None:
    """Interval of the number a threshold can be set on, ``None`` where there is none."""
    own = result.details.get("interval") if result.gate == "performance" else None
    low, high = (own["low"], own["high"]) if own else (result.low, result.high)
    return None if low is None or high is None else (low, high)


def _would_kill(mutant: Mutant, found: Sequence[GateResult], own: Mapping[str, GateResult]) -> str:
    """Say which threshold would have failed the mutant and not the candidate."""
    told = []
    for result in found:
        mine, before = _bounds(result), own.get(result.gate)
        theirs = _bounds(before) if before is not None else None
        if mine is None or theirs is None or result.gate not in _SETTING:
            continue
        more_is_better = bool(result.details.get("higher_is_better", result.gate == "fairness"))
        unit = 1e3 if result.gate == "latency" else 1.0
        if more_is_better and mine[1] < theirs[0]:
            told.append(
                f"{result.gate} {_SETTING[result.gate]} above {mine[1] * unit:.3g} (the candidate holds {theirs[0] * unit:.3g})"
            )
        if not more_is_better and mine[0] > theirs[1]:
            name = "floor (a ceiling for this metric)" if result.gate == "performance" else _SETTING[result.gate]
            told.append(f"{result.gate} {name} below {mine[0] * unit:.3g} (the candidate holds {theirs[1] * unit:.3g})")
    if mutant.name in _REMEDY:
        told.append(_REMEDY[mutant.name])
    return (
        "; or ".join(told)
        or "no threshold of these gates tells it from the candidate: declare slices, or switch the further checks on"
    )
