"""What a comparison found: frozen values with the JSON names of the design."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from pytest_mlgates.results import finite_or_none, plain


class DriftVerdict(enum.StrEnum):
    """The three answers about one feature, or about all of them."""

    DRIFT = "drift"
    STABLE = "stable"
    INSUFFICIENT = "insufficient"


_NUMBERS = (
    "psi", "psi_present", "psi_threshold", "ks", "ks_low", "ks_high", "ks_p", "cvm_p", "chi2", "chi2_p", "cramers_v", "js", "wasserstein",
    "wasserstein_low", "wasserstein_high", "p", "q", "design_effect", "smallest_shift",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One column of the current window against the reference.

    Attributes
    ----------
    feature, kind
        Column and how it was compared: ``number``, ``discrete``, ``category``, ``time``, ...
    psi, psi_threshold
        Smoothed PSI, and what chance alone would reach in 1 of 100 windows (over all features together).
    psi_present
        The PSI of the rows that are not missing: what a retrain is judged by, for missing rows are a fault of the source.
    ks, ks_low, ks_high, ks_p
        Kolmogorov-Smirnov distance with the bounds that hold its exact value, and its p-value; ``None`` for categories.
    cvm_p
        p-value of Cramér-von Mises; ``None`` for categories.
    chi2, chi2_p, cramers_v
        Pearson's chi-square over the PSI's cells, its p-value, and the effect size.
    js
        Jensen-Shannon distance in base 2.
    wasserstein, wasserstein_low, wasserstein_high
        First Wasserstein distance in standard deviations of the reference.
    p, q
        The p-value that the alarm rests on, and its Benjamini-Hochberg q-value over all features, times Yekutieli's factor.
    design_effect
        Rows that carry the information of one independent row, where rows of a day depend on each other.
    smallest_shift
        The smallest shift, in standard deviations, that this many rows could show; given where the verdict is INSUFFICIENT.
    verdict
        ``drift``, ``stable`` or ``insufficient``; an insufficient feature has no numbers.
    retrain
        Whether this feature calls for a retrain: it drifted, by enough, and its data are whole.
    reason
        One clause on anything unusual: a lost column, a type that changed, new categories, a suppression.
    """

    feature: str
    kind: str
    verdict: DriftVerdict
    n_reference: int = 0
    n_current: int = 0
    psi: float | None = None
    psi_present: float | None = None
    psi_threshold: float | None = None
    ks: float | None = None
    ks_low: float | None = None
    ks_high: float | None = None
    ks_p: float | None = None
    cvm_p: float | None = None
    chi2: float | None = None
    chi2_p: float | None = None
    cramers_v: float | None = None
    js: float | None = None
    wasserstein: float | None = None
    wasserstein_low: float | None = None
    wasserstein_high: float | None = None
    p: float | None = None
    q: float | None = None
    design_effect: float | None = None
    smallest_shift: float | None = None
    retrain: bool = False
    broken: bool = False
    reason: str = ""
    new_categories: tuple[str, ...] = ()
    lost_categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            object.__setattr__(self, name, finite_or_none(getattr(self, name)))
        object.__setattr__(self, "verdict", DriftVerdict(self.verdict))

    @property
    def drifted(self) -> bool:
        """Whether the verdict is ``drift``."""
        return self.verdict is DriftVerdict.DRIFT

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**{k: plain(v) for k, v in dataclasses.asdict(self).items()}, "verdict": self.verdict.value}


@dataclasses.dataclass(frozen=True, slots=True)
class DriftReport:
    """All columns of the current window against the reference."""

    features: tuple[FeatureDrift, ...]
    rows_reference: int
    rows_current: int
    alpha: float
    min_psi: float
    method: str

    def __getitem__(self, feature: str) -> FeatureDrift:
        """Return one feature's record. Raises KeyError."""
        for found in self.features:
            if found.feature == feature:
                return found
        raise KeyError(feature)

    @property
    def verdict(self) -> DriftVerdict:
        """``drift`` where a feature drifted, ``insufficient`` where none could be judged, else ``stable``."""
        seen = {f.verdict for f in self.features}
        for answer in (DriftVerdict.DRIFT, DriftVerdict.STABLE):
            if answer in seen:
                return answer
        return DriftVerdict.INSUFFICIENT

    @property
    def drifted(self) -> tuple[FeatureDrift, ...]:
        """Features whose verdict is ``drift``."""
        return tuple(f for f in self.features if f.drifted)

    @property
    def psi_overall(self) -> float | None:
        """The largest `psi_present` among the features that drifted; 0 where none did, ``None`` where none could be judged.

        PSI under no drift is not 0: with 10 bins and 35 rows its median is 0.3. So what an alert rule compares with 0.20 is
        the size of the drift that is beyond chance, and nothing else.
        """
        if self.verdict is DriftVerdict.INSUFFICIENT:
            return None
        return max((f.psi_present for f in self.drifted if f.psi_present is not None and not f.broken), default=0.0)

    @property
    def psi_largest(self) -> float | None:
        """The largest PSI of all features, chance included; ``None`` where none could be judged."""
        return max((f.psi for f in self.features if f.psi is not None), default=None)

    @property
    def retrain(self) -> bool:
        """Whether a feature calls for a retrain."""
        return any(f.retrain for f in self.features)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "verdict": self.verdict.value,
            "psi_overall": finite_or_none(self.psi_overall),
            "rows_reference": self.rows_reference,
            "rows_current": self.rows_current,
            "alpha": self.alpha,
            "min_psi": self.min_psi,
            "method": self.method,
            "features": [f.to_dict() for f in self.features],
        }
