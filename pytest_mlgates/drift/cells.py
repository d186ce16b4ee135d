"""The cells that PSI, chi-square and Jensen-Shannon count in, the same for both windows."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from pytest_mlgates.drift.distributions import Categories, Exact, Profiled

DISCRETE = 20  # at most so many distinct numbers make a column discrete: it is counted value by value
TOP_CATEGORIES = 30
_LEAST_SHARE = 0.25  # of an even cell; a thinner one joins its neighbour


ANOTHER, MISSING = "another value", "missing"


@dataclasses.dataclass(frozen=True, slots=True)
class Unseen:
    """Current rows whose value the reference does not have, where they have no cells of their own.

    Attributes
    ----------
    rows
        How many they are.
    counts : ndarray
        Rows of both windows of each value that any row could turn out to be alone in: the input of `methods.unseen_p`.
    """

    rows: float
    counts: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Cells:
    """Counts of both windows, cell by cell (shape (cells,) each); no cell is empty on both sides.

    ``unseen`` is ``None`` where every value has a cell of its own, or none is new.
    """

    labels: tuple[str, ...]
    reference: NDArray[np.float64]
    current: NDArray[np.float64]
    discrete: bool
    unseen: Unseen | None = None

    @classmethod
    def of(
        cls,
        labels: list[str],
        reference: NDArray[np.float64],
        current: NDArray[np.float64],
        *,
        discrete: bool,
        unseen: Unseen | None = None,
    ) -> Cells:
        """Keep the cells that hold something."""
        held = (reference > 0) | (current > 0)
        kept = tuple(n for n, h in zip(labels, held, strict=True) if h)
        return cls(kept, reference[held], current[held], discrete, unseen)

    def without(self, label: str) -> Cells:
        """Return the cells less the one with this label (`MISSING` or `ANOTHER`), where there is one."""
        kept = np.array([name != label for name in self.labels])
        labels = tuple(name for name in self.labels if name != label)
        return dataclasses.replace(self, labels=labels, reference=self.reference[kept], current=self.current[kept])


def numeric_cells(reference: Exact | Profiled, current: Exact | Profiled, bins: int = 10) -> Cells:
    """Count both columns in the reference's quantile bins, or value by value where it has at most `DISCRETE` values.

    Values that a discrete reference does not have are one further cell. A value that holds much of the reference by itself
    (zeros, say) gets a cell of its own. Missing rows are one further cell where there are any.
    """
    atoms = reference.atoms(DISCRETE)
    if atoms is not None:
        labels = [f"= {a:g}" for a in atoms]
        ref = [reference.upto(atoms) - reference.below(atoms)]
        cur = [current.upto(atoms) - current.below(atoms)]
        labels.append(ANOTHER)
        rest = max(current.n - cur[0].sum(), 0.0)
        # how many values the rows in ``rest`` have is not known of a profile: one each is the least surprising
        unseen = Unseen(rest, np.concatenate([ref[0] + cur[0], np.ones(int(rest))])) if rest else None
        ref.append(np.array([max(reference.n - ref[0].sum(), 0.0)]))
        cur.append(np.array([rest]))
        counts = np.concatenate(ref), np.concatenate(cur)
        return _with_missing(labels, counts[0], counts[1], reference, current, discrete=True, unseen=unseen)
    cuts, strict = _cuts(reference, bins)
    upto = reference.upto(cuts) * ~strict + reference.below(cuts) * strict
    upto_current = current.upto(cuts) * ~strict + current.below(cuts) * strict
    ref_counts = np.diff(np.concatenate([[0.0], upto, [reference.n]]))
    cur_counts = np.diff(np.concatenate([[0.0], upto_current, [current.n]]))
    signs = np.where(strict, "<", "≤")
    labels = [f"{s} {c:g}" for s, c in zip(signs, cuts, strict=True)] + ["above"]
    return _with_missing(labels, ref_counts, cur_counts, reference, current, discrete=False)


def _cuts(reference: Exact | Profiled, bins: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Cut points with, for each, whether the cut lies just below the value."""
    values = reference.quantile_values(bins - 1)
    below, upto = reference.below(values) / reference.n, reference.upto(values) / reference.n
    points: list[tuple[float, bool]] = []
    last, least = 0.0, _LEAST_SHARE / bins
    for value, under, reached in zip(values.tolist(), below.tolist(), upto.tolist(), strict=True):
        if reached - under >= 0.5 / bins and under - last >= least:
            points.append((value, True))
            last = under
        if reached - last >= least and 1 - reached >= least:
            points.append((value, False))
            last = reached
    return np.array([p[0] for p in points]), np.array([p[1] for p in points], dtype=bool)


def category_cells(reference: Categories, current: Categories, top: int = TOP_CATEGORIES) -> Cells:
    """Count both columns in the ``top`` categories of both windows together; all others are one cell.

    The cells must not be chosen by the reference alone: its most frequent of many categories owe that to chance as well, so
    any other window would have fewer rows in them, and rows in categories that it does not have.
    """
    pooled = {name: reference.counts.get(name, 0.0) + rows for name, rows in current.counts.items()}
    pooled = {**reference.counts, **pooled}
    ranked = sorted(pooled, key=lambda name: (-pooled[name], name))
    names, rest = ranked[:top], ranked[top:]
    both = (reference, current)
    counts = [
        np.array([*(w.counts.get(c, 0.0) for c in names), w.other + sum(w.counts.get(c, 0.0) for c in rest)]) for w in both
    ]
    fresh = 0.0 if reference.truncated else sum(rows for name, rows in current.counts.items() if name not in reference.counts)
    unseen = Unseen(fresh, np.array(list(pooled.values()))) if rest and fresh else None
    labels = [*(f"= {name}" for name in names), "other"]
    return _with_missing(labels, counts[0], counts[1], reference, current, discrete=True, unseen=unseen)


def _with_missing(
    labels: list[str],
    reference: NDArray[np.float64],
    current: NDArray[np.float64],
    ref: Exact | Profiled | Categories,
    cur: Exact | Profiled | Categories,
    *,
    discrete: bool,
    unseen: Unseen | None = None,
) -> Cells:
    unusable = [c.missing + getattr(c, "infinite", 0.0) for c in (ref, cur)]
    counts = np.append(reference, unusable[0]), np.append(current, unusable[1])
    return Cells.of([*labels, MISSING], counts[0], counts[1], discrete=discrete, unseen=unseen)
