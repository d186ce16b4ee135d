"""From bounds to a verdict, and from any unusable input to one: what every check shares."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import ParamSpec

import numpy as np

from pytest_mlgates.errors import ConfigError, DataUnusable
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.stats import NotEnough

P = ParamSpec("P")

_ORDER = (Verdict.ERROR, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.SKIP)


def check(gate: str) -> Callable[[Callable[P, GateResult]], Callable[P, GateResult]]:
    """Turn unusable data into a result of ``gate``: INCONCLUSIVE where more or other rows would help, ERROR where the data are broken.

    Settings that make no sense (`ConfigError`) stay errors of the caller.
    """

    def decorate(function: Callable[P, GateResult]) -> Callable[P, GateResult]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> GateResult:
            try:
                # what overflows or divides by zero is caught by its value, whatever filter of warnings the caller has set
                with np.errstate(all="ignore"):
                    return function(*args, **kwargs)
            except NotEnough as problem:
                return GateResult(gate, Verdict.INCONCLUSIVE, hint=str(problem), summary=f"cannot be judged: {problem}")
            except DataUnusable as problem:
                return GateResult(gate, Verdict.ERROR, hint=str(problem), summary=f"unusable data: {problem}")

        return run

    return decorate


def at_least(low: float, high: float, threshold: float) -> Verdict:
    """PASS when the lower bound reaches the threshold, FAIL when the upper one misses it, else INCONCLUSIVE; never PASS on NaN.

    A slack of 1e-12 of the threshold's size absorbs the order in which floats were summed.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return Verdict.INCONCLUSIVE
    slack = 1e-12 * max(1.0, abs(threshold))
    if low >= threshold - slack:
        return Verdict.PASS
    return Verdict.FAIL if high < threshold - slack else Verdict.INCONCLUSIVE


def at_most(low: float, high: float, threshold: float) -> Verdict:
    """`at_least`, mirrored."""
    return at_least(-high, -low, -threshold)


def worst(*verdicts: Verdict) -> Verdict:
    """Return the most severe verdict; SKIP only where all are."""
    return min(verdicts, key=_ORDER.index)


def skip(gate: str, reason: str, how: str) -> GateResult:
    """Return a SKIP with its reason and the way to supply what is missing."""
    return GateResult(gate, Verdict.SKIP, hint=how, summary=reason)


def limit(name: str, value: float, *, above: float = 0.0, most: float = math.inf) -> float:
    """Return a threshold as a float.

    Raises
    ------
    ConfigError
        Not a finite number in (above, most].
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} is {value!r}, expected a number") from error
    if not (math.isfinite(number) and above < number <= most):
        upper = "" if math.isinf(most) else f" and at most {most:g}"
        raise ConfigError(f"{name} is {value!r}, expected a number above {above:g}{upper}")
    return number


def number(value: float) -> str:
    """Write a number for the terminal: three decimals around one, thousands separators for large ones."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:,.1f}"
    return f"{value:.3f}" if size >= 0.01 or size == 0 else f"{value:.2g}"


def percent(confidence: float) -> str:
    """Write a confidence such as 0.95 as ``95%``."""
    return f"{confidence * 100:.4g}%"


def look(looks: int) -> str:
    """Say that the bound that lets a candidate pass was corrected for earlier looks at the holdout."""
    return f"; look {looks} at this holdout" if looks > 1 else ""


def rows_hint(needed: int | None) -> str:
    """Say how many rows would settle an INCONCLUSIVE verdict."""
    if needed is None:
        return "the estimate lies at the threshold: no realistic number of rows would settle it, improve the model or move the threshold"
    return f"about {needed:,} rows would settle it, if the estimate is the truth"
