"""What a gate found: frozen values, no prose beyond one summary line, no I/O.

Everything here survives ``json.dumps``: numbers are plain floats and ints, never numpy scalars, and what could not be
computed is ``None``, never NaN.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterable, Mapping
from typing import Any


class Verdict(enum.StrEnum):
    """The five answers a gate can give."""

    PASS = "pass"  # noqa: S105 a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    SKIP = "skip"
    ERROR = "error"

    @property
    def blocks(self) -> bool:
        """Whether this answer, by itself, keeps a version from being promoted (inconclusive under the default policy)."""
        return self not in (Verdict.PASS, Verdict.SKIP)


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its uncertainty.

    Attributes
    ----------
    value
        The point estimate.
    low, high
        Two-sided interval at ``confidence``.
    n
        Rows (or events) that it rests on.
    method
        Name of the estimator and of the interval, e.g. ``"AUC, DeLong"``.
    confidence
        Coverage of the interval, between 0 and 1.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    confidence: float = 0.95

    @property
    def finite(self) -> bool:
        """Whether value and both bounds are finite numbers."""
        return math.isfinite(self.value) and math.isfinite(self.low) and math.isfinite(self.high)


@dataclasses.dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate says of one model version.

    Attributes
    ----------
    gate
        Stable short name: ``performance``, ``holdout``, ``fairness``, ``latency``, ``calibration``, ``schema``, ...
    verdict
        See `Verdict`.
    estimate, low, high
        The number judged and its two-sided interval, in the unit of ``threshold``; ``None`` where nothing could be computed.
    threshold
        The configured limit that decided.
    n
        Rows or calls that the number rests on.
    method
        Estimator and interval, by name.
    hint
        What to do next; empty on a plain pass. For a skip: how to supply what is missing.
    summary
        One line for the terminal: numbers with units, interval, threshold, n.
    details
        Further numbers, JSON-ready.
    model, version
        Filled in by whoever knows them; empty in a notebook.
    """

    gate: str
    verdict: Verdict
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    n: int = 0
    method: str = ""
    hint: str = ""
    summary: str = ""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        for name in ("estimate", "low", "high", "threshold"):
            object.__setattr__(self, name, finite_or_none(getattr(self, name)))
        object.__setattr__(self, "n", int(self.n))
        object.__setattr__(self, "verdict", Verdict(self.verdict))
        object.__setattr__(self, "details", plain(self.details))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        out: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        out["verdict"] = self.verdict.value
        out["details"] = dict(self.details)
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GateResult:
        """Rebuild a result from `to_dict`; unknown keys of a later version are dropped."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})


@dataclasses.dataclass(frozen=True, slots=True)
class RunReport:
    """Everything that was judged of one model version in one run.

    ``required`` names the gates that the settings demand: one that did not report makes the run INCOMPLETE, which is not a pass.
    ``warn_inconclusive`` names the gates whose INCONCLUSIVE is allowed by ``on_inconclusive = "warn"``.
    """

    model: str
    version: str
    results: tuple[GateResult, ...]
    required: tuple[str, ...]
    warn_inconclusive: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """Required gates that did not report."""
        reported = {r.gate for r in self.results}
        return tuple(g for g in self.required if g not in reported)

    @property
    def verdict(self) -> Verdict:
        """The worst of what was reported; INCONCLUSIVE where a required gate is missing or nothing was judged."""
        seen = {r.verdict for r in self.results}
        for worst in (Verdict.ERROR, Verdict.FAIL):
            if worst in seen:
                return worst
        if self.missing or Verdict.PASS not in seen:
            return Verdict.INCONCLUSIVE
        if Verdict.INCONCLUSIVE in seen and not self.warn_inconclusive:
            return Verdict.INCONCLUSIVE
        return Verdict.PASS

    @property
    def blocks(self) -> bool:
        """Whether this run keeps the version from being promoted."""
        return self.verdict is not Verdict.PASS


def finite_or_none(value: Any) -> float | None:
    """Return a plain finite float, or ``None`` for NaN, infinities and ``None``."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def plain(value: Any) -> Any:
    """Return ``value`` with every numpy scalar, tuple, NaN and odd key turned into plain JSON values."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return finite_or_none(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(v) for v in value]
    return str(value)
