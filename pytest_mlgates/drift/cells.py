"""The cells that PSI, chi-square and Jensen-Shannon count in: cut by the reference, the same for both windows."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from pytest_mlgates.drift.distributions import Categories, Exact, Profiled

DISCRETE = 20  # at most so many distinct numbers make a column discrete: it is counted value by value
TOP_CATEGORIES = 30
_LEAST_SHARE = 0.25  # of an even cell; a thinner one joins its neighbour


@dataclasses.dataclass(frozen=True, slots=True)
class Cells:
    """Counts of both windows, cell by cell (shape (cells,) each); no cell is empty on both sides."""

    labels: tuple[str, ...]
    reference: NDArray[np.float64]
    current: NDArray[np.float64]
    discrete: bool

    @classmethod
    def of(cls, labels: list[str], reference: NDArray[np.float64], current: NDArray[np.float64], *, discrete: bool) -> Cells:
        """Keep the cells that hold something."""
        held = (reference > 0) | (current > 0)
        return cls(tuple(n for n, h in zip(labels, held, strict=True) if h), reference[held], current[held], discrete)


def numeric_cells(reference: Exact | Profiled, current: Exact | Profiled, bins: int = 10) -> Cells:
    """Count both columns in the reference's quantile bins, or value by value where it has at most `DISCRETE` values.

    A value that holds much of the reference by itself (zeros, say) gets a cell of its own. Missing rows are one further cell
    where there are any.
    """
    atoms = reference.atoms(DISCRETE)
    if atoms is not None:
        labels = [f"= {a:g}" for a in atoms]
        ref = [reference.upto(atoms) - reference.below(atoms)]
        cur = [current.upto(atoms) - current.below(atoms)]
        labels.append("another value")
        ref.append(np.array([max(reference.n - ref[0].sum(), 0.0)]))
        cur.append(np.array([max(current.n - cur[0].sum(), 0.0)]))
        return _with_missing(labels, np.concatenate(ref), np.concatenate(cur), reference, current, discrete=True)
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
    """Count both columns in the reference's ``top`` categories; the others, and those it did not have, are one cell each."""
    ranked = sorted(reference.counts.items(), key=lambda item: (-item[1], item[0]))
    names = [name for name, _ in ranked[:top]]
    rest = {name for name, _ in ranked[top:]}
    known = set(names) | rest
    ref = [reference.counts[name] for name in names]
    cur = [current.counts.get(name, 0.0) for name in names]
    ref += [sum(reference.counts[name] for name in rest) + reference.other, 0.0]
    cur += [
        sum(current.counts.get(name, 0.0) for name in rest) + current.other,
        sum(rows for name, rows in current.counts.items() if name not in known),
    ]
    labels = [*names, "other", "new"]
    if reference.truncated:  # a category that was folded into "other" is not new: the two cannot be told apart
        ref[-2], cur[-2], ref[-1], cur[-1] = ref[-2] + ref[-1], cur[-2] + cur[-1], 0.0, 0.0
    return _with_missing(labels, np.array(ref), np.array(cur), reference, current, discrete=True)


def _with_missing(
    labels: list[str],
    reference: NDArray[np.float64],
    current: NDArray[np.float64],
    ref: Exact | Profiled | Categories,
    cur: Exact | Profiled | Categories,
    *,
    discrete: bool,
) -> Cells:
    unusable = [c.missing + getattr(c, "infinite", 0.0) for c in (ref, cur)]
    return Cells.of([*labels, "missing"], np.append(reference, unusable[0]), np.append(current, unusable[1]), discrete=discrete)
