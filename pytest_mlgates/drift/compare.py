"""Compare a current window with a reference: every statistic, one alarm rule, no alarm by chance.

A feature alarms when its Benjamini-Hochberg q-value over all features (with Yekutieli's factor, for features depend on each
other) is at most ``alpha``: numbers by Kolmogorov-Smirnov and Cramér-von Mises, categories and discrete numbers by
chi-square. It calls for a retrain when its PSI is at least ``min_psi`` as well, for with a million rows a shift of 0.02
standard deviations is significant and harmless.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pytest_mlgates.drift import methods
from pytest_mlgates.drift.cells import ANOTHER, MISSING, Cells, category_cells, numeric_cells
from pytest_mlgates.drift.columns import Kind, kind_of
from pytest_mlgates.drift.distributions import Categories, Exact, Profiled
from pytest_mlgates.drift.profile import Distribution, Profile, build_profile, exact_profile, profile_rows
from pytest_mlgates.drift.report import DriftReport, DriftVerdict, FeatureDrift
from pytest_mlgates.drift.sources import as_source
from pytest_mlgates.errors import DataUnusable, UsageProblem, nearest

ALPHA, MIN_PSI, MIN_ROWS = 0.01, 0.10, 100
EXACT_ROWS = 250_000  # up to here sorting whole columns is cheaper than it is worth saving


class Engine(Protocol):
    """Whoever can profile rows that are not in this process."""

    def profile(self, rows: Any, columns: Sequence[str] | None, edges: Mapping[str, Any] | None) -> Profile:
        """Profile ``rows``; edges are chosen where none are given."""


@dataclasses.dataclass(frozen=True, slots=True)
class Design:
    """What is known of a feature's chance variation beyond that of independent rows.

    ``effect`` rows carry the information of one. Where whole past windows were looked at, ``past`` is their mean chi-square
    per degree of freedom, ``past_df`` its effective degrees of freedom, and ``windows`` how many there were.
    """

    effect: float = 1.0
    past: float = 0.0
    past_df: float = 0.0
    windows: int = 0


def compare(
    reference: Any,
    current: Any,
    *,
    columns: Sequence[str] | None = None,
    engine: str | Engine = "local",
    mode: str = "auto",
    alpha: float = ALPHA,
    min_psi: float = MIN_PSI,
    min_rows: int = MIN_ROWS,
    weights: Any = None,
    designs: Mapping[str, Design] | None = None,
    suppressed: Mapping[str, str] | None = None,
    limits: Mapping[str, float] | None = None,
) -> DriftReport:
    """Compare two windows, column by column.

    Parameters
    ----------
    reference, current
        Arrow tables, pandas frames, Parquet paths or (with ``engine``) whatever that engine reads. The reference may be a
        stored `Profile`; then only the current rows are read.
    columns
        Columns to compare; by default all that the reference has, and those that only the current window has.
    engine
        ``"local"``, or an object with a ``profile`` method such as ``pytest_mlgates.engines.spark.SparkEngine``.
    mode
        ``"exact"`` sorts whole columns, ``"profile"`` counts at the reference's 1,023 edges, ``"auto"`` takes exact up to
        `EXACT_ROWS` rows.
    alpha, min_psi, min_rows
        Level of the alarm, least PSI of a retrain, and rows of the current window under which there is no verdict.
    weights : array_like, shape (reference rows,), optional
        Weight of each reference row, from seasonal cells; exact mode only.
    designs
        Per feature, what is known of its chance variation (see `Design`).
    suppressed
        Per feature, why it must not alarm.
    limits
        Per feature, a PSI that stable windows of it are known to reach: below it there is no alarm (``mlgates drift calibrate``).

    Raises
    ------
    UsageProblem
        An unknown mode, engine or column; a level, limit or weights out of their range.
    DataUnusable
        Rows that cannot be read, or dates given as text.
    """
    _check_levels(columns, alpha, min_psi, min_rows)
    ref, cur = _profiles(reference, current, columns, engine, mode, weights)
    names = list(columns) if columns is not None else [*ref.kinds, *(c for c in cur.kinds if c not in ref.kinds)]
    n, m = ref.rows, cur.rows
    tests = max(1, len(names))
    drafts = [_feature(name, ref, cur, (designs or {}).get(name, Design()), min_rows=min_rows, tests=tests) for name in names]
    q_values = methods.benjamini_yekutieli([math.nan if d.p is None else d.p for d in drafts])
    judged = [
        _judged(
            draft, float(q), alpha, min_psi, (suppressed or {}).get(draft.feature, ""), (limits or {}).get(draft.feature, 0.0)
        )
        for draft, q in zip(drafts, q_values, strict=True)
    ]
    exactness = "exact" if ref.exact and cur.exact else f"counts at up to {_edge_count(ref)} reference edges"
    method = (
        f"Benjamini-Hochberg q (times Yekutieli's factor) ≤ {alpha:g} over {tests} columns "
        f"(KS and Cramér-von Mises; chi-square); PSI smoothed +0.5; {exactness}"
    )
    return DriftReport(tuple(judged), int(n), int(m), alpha, min_psi, method)


def _check_levels(columns: Any, alpha: float, min_psi: float, min_rows: float) -> None:
    if isinstance(columns, str):
        raise UsageProblem(f"columns is {columns!r}; it must be a list of names, [{columns!r}]")
    if not 0 < alpha < 1:
        raise UsageProblem(f"alpha is {alpha}; it must lie between 0 and 1, such as 0.01")
    if not min_psi >= 0:
        raise UsageProblem(f"min_psi is {min_psi}; it must be 0 or more, such as 0.1")
    if not min_rows >= 1:
        raise UsageProblem(f"min_rows is {min_rows}; it must be 1 or more, such as 100")


def _check_weights(weights: Any, rows: int) -> None:
    given = np.asarray(weights, dtype=float)
    if given.shape != (rows,) or not np.isfinite(given).all() or (given < 0).any() or given.sum() <= 0:
        raise UsageProblem(f"weights of shape {given.shape}: give {rows} numbers, one a reference row, 0 or more and not all 0")


def _edge_count(profile: Profile) -> int:
    return max((e.size for e in profile.edges.values()), default=0)


def _profiles(
    reference: Any, current: Any, columns: Sequence[str] | None, engine: str | Engine, mode: str, weights: Any
) -> tuple[Profile, Profile]:
    if mode not in ("auto", "exact", "profile"):
        raise UsageProblem(f"mode is {mode!r}; it must be auto, exact or profile")
    if not isinstance(engine, str):
        if weights is not None:
            raise UsageProblem("rows cannot be weighted on another engine; compare in this process, or without seasonal cells")
        ref = reference if isinstance(reference, Profile) else engine.profile(reference, columns, None)
        return ref, engine.profile(current, columns, ref.edges)
    if engine != "local":
        raise UsageProblem(
            f"engine is {engine!r}; give 'local', or an engine object (pytest_mlgates.engines.spark.SparkEngine)"
        )
    rows = as_source(current, "current")
    if isinstance(reference, Profile):
        _check_columns(columns, reference.kinds, rows.schema.names)
        return reference, _aligned(rows, reference, columns)
    base = as_source(reference, "reference")
    _check_columns(columns, base.schema.names, rows.schema.names)
    wanted = [c for c in base.schema.names if columns is None or c in columns]
    if weights is not None:
        _check_weights(weights, base.rows)
    if mode == "exact" or weights is not None or (mode == "auto" and base.rows <= EXACT_ROWS and rows.rows <= EXACT_ROWS):
        ref = exact_profile(base, wanted, weights)
        chosen = [c for c in rows.schema.names if columns is None or c in columns]
        return ref, exact_profile(rows, chosen)
    usable = [c for c in wanted if kind_of(base.schema.field(c).type) is not Kind.OTHER]
    ref = profile_rows(base, usable)
    return ref, _aligned(rows, ref, columns)


def _aligned(rows: Any, reference: Profile, columns: Sequence[str] | None) -> Profile:
    """Profile the current rows at the reference's edges; a column of another kind is named, not read."""
    kinds = {c: kind_of(rows.schema.field(c).type) for c in rows.schema.names if columns is None or c in columns}
    readable = [c for c, k in kinds.items() if _comparable(reference.kinds.get(c), k)]
    if any(isinstance(c, Exact) for c in reference.columns.values()):
        return dataclasses.replace(exact_profile(rows, readable), kinds=kinds)
    edges = reference.edges
    readable = [c for c in readable if not kinds[c].numeric or c in edges]
    found = build_profile(rows.batches(readable), rows.schema, readable, edges)
    return dataclasses.replace(found, kinds=kinds)


def _check_columns(columns: Sequence[str] | None, reference: Any, current: Sequence[str]) -> None:
    for column in columns or ():
        if column not in reference and column not in current:
            raise UsageProblem(f"neither window has a column {column!r}; {nearest(column, [*reference, *current])}")


def _comparable(reference: Kind | None, current: Kind | None) -> bool:
    return reference is current and reference not in (None, Kind.OTHER)


def _feature(name: str, ref: Profile, cur: Profile, design: Design, *, min_rows: int, tests: int) -> FeatureDrift:
    kinds = ref.kinds.get(name), cur.kinds.get(name)
    n, m = int(ref.rows), int(cur.rows)
    blank = FeatureDrift(name, str(kinds[0] or kinds[1]), DriftVerdict.STABLE, n, m)
    trouble = _schema_trouble(kinds[0], kinds[1], m)
    if trouble:
        verdict, reason = trouble
        return dataclasses.replace(blank, verdict=verdict, reason=reason, broken=verdict is DriftVerdict.DRIFT)
    a, b = ref.columns[name], cur.columns[name]
    if _usable(b) <= 0 and m >= min_rows and _usable(a) > 0:
        reason = "every current row is missing; mend the source, a retrain would not help"
        return dataclasses.replace(blank, verdict=DriftVerdict.DRIFT, reason=reason, broken=True)
    if m >= min_rows > _usable(b) and _usable(a) >= min_rows and _emptied(a, b, tests):
        reason = f"{1 - _usable(b) / m:.0%} of current rows are missing, of the reference {1 - _usable(a) / n:.0%}; "
        return dataclasses.replace(blank, verdict=DriftVerdict.DRIFT, reason=f"{reason}mend the source", broken=True)
    if min(_usable(a), _usable(b)) < min_rows:
        shift = methods.smallest_visible_shift(_usable(a) / design.effect, _usable(b) / design.effect)
        thin = "current" if _usable(b) < min_rows else "reference"
        reason = f"{int(min(_usable(a), _usable(b)))} usable {thin} rows, {min_rows} needed"
        return dataclasses.replace(blank, verdict=DriftVerdict.INSUFFICIENT, reason=reason, smallest_shift=shift)
    return _measured(blank, a, b, design, tests)


def _emptied(a: Distribution, b: Distribution, tests: int) -> bool:
    """Whether the share of missing rows rose beyond chance."""
    (n, gone), (m, missing) = ((c.n, c.missing + getattr(c, "infinite", 0.0)) for c in (a, b))
    return missing / (m + missing) > gone / (n + gone) and methods.table_p([n, gone], [m, missing]) * tests <= ALPHA


def _usable(column: Distribution) -> float:
    return float(column.n)


def _schema_trouble(reference: Kind | None, current: Kind | None, rows: int) -> tuple[DriftVerdict, str] | None:
    if current is None:
        if rows == 0:
            return DriftVerdict.INSUFFICIENT, "the current window has no rows"
        return DriftVerdict.DRIFT, "the column is gone from the current window; mend the source, a retrain would not help"
    if reference is None:
        return DriftVerdict.INSUFFICIENT, "a new column: the reference does not have it"
    if Kind.OTHER in (reference, current):
        return DriftVerdict.INSUFFICIENT, "a type that has no distribution to compare (list, struct or bytes)"
    if Kind.EMPTY in (reference, current) and reference is not current:
        if current is Kind.EMPTY and rows > 0:
            return DriftVerdict.DRIFT, "every current row is missing; mend the source, a retrain would not help"
        return DriftVerdict.INSUFFICIENT, "every row of one window is missing"
    if reference is not current:
        return DriftVerdict.DRIFT, f"the type changed from {reference} to {current}; mend the source, a retrain would not help"
    return None


def _measured(blank: FeatureDrift, a: Distribution, b: Distribution, design: Design, tests: int) -> FeatureDrift:
    numbers: dict[str, Any] = {}
    new: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    # a side with weights or dependent rows counts for as many rows as it is worth
    worth_a = _effective_rows(a) / _usable(a) / design.effect
    worth_b = 1 / design.effect
    if isinstance(a, Categories) and isinstance(b, Categories):
        cells = category_cells(a, b)
        new = tuple(sorted(set(b.counts) - set(a.counts), key=lambda c: -b.counts[c]))[:10] if not a.truncated else ()
        lost = tuple(sorted(set(a.counts) - set(b.counts), key=lambda c: -a.counts[c]))[:10]
    else:
        assert not isinstance(a, Categories)
        assert not isinstance(b, Categories)
        cells = numeric_cells(a, b)
        numbers |= _line_statistics(a, b, worth_a, worth_b)
    numbers |= _cell_statistics(cells, worth_a, worth_b, tests)
    p = _alarm_p(cells, numbers, design, worth_a, worth_b)
    values = cells.without(MISSING)
    # rows that are missing now are a fault of the source, as are names that are all new: no model is trained for them
    moved = methods.population_stability_index(values.reference, values.current)
    kind = "discrete" if cells.discrete and blank.kind == Kind.NUMBER else blank.kind
    reason = f"{len(new)} new categor{'y' if len(new) == 1 else 'ies'}: {', '.join(new[:3])}" if new else ""
    if isinstance(a, Categories) and isinstance(b, Categories) and not a.truncated and not set(a.counts) & set(b.counts):
        moved, reason = math.nan, f"every category is new: {', '.join(new[:3])}; mend the source, a retrain would not help"
    return dataclasses.replace(
        blank, kind=kind, p=p, design_effect=design.effect, reason=reason, new_categories=new, lost_categories=lost,
        psi_present=moved, **numbers,
    )  # fmt: skip


def _effective_rows(column: Distribution) -> float:
    """Kish's effective size of a weighted sample, ``(sum w)^2 / sum w^2``."""
    if isinstance(column, Exact) and column.cumulative is not None:
        weights = np.diff(column.cumulative)
        return float(weights.sum() ** 2 / np.einsum("i,i->", weights, weights))
    return _usable(column)


def _line_statistics(a: Exact | Profiled, b: Exact | Profiled, worth_a: float, worth_b: float) -> dict[str, Any]:
    if type(a) is not type(b):
        raise DataUnusable("one window is exact and the other profiled; compare them in the same mode")
    n, m = a.n * worth_a, b.n * worth_b
    ks, distance, squared = a.distances(b, n / (n + m))  # type: ignore[arg-type]  # of one kind, see above
    scale = a.moments.std or b.moments.std or 1.0
    return {
        "ks": ks.value,
        "ks_low": ks.low,
        "ks_high": ks.high,
        "ks_p": methods.kolmogorov_p(ks.value, n, m),
        "cvm_p": methods.cramer_von_mises_p(squared, n, m),
        "wasserstein": distance.value / scale,
        "wasserstein_low": distance.low / scale,
        "wasserstein_high": distance.high / scale,
    }


def _cell_statistics(cells: Cells, worth_a: float, worth_b: float, tests: int) -> dict[str, Any]:
    chi2, p = methods.chi_square(cells.reference, cells.current)
    if worth_a != 1 or worth_b != 1:
        p = methods.chi_square(cells.reference * worth_a, cells.current * worth_b)[1]
    count = len(cells.labels)
    rows = float(cells.reference.sum() + cells.current.sum())
    level = 1 - 0.01 / tests
    return {
        "psi": methods.population_stability_index(cells.reference, cells.current),
        "psi_threshold": methods.psi_null_quantile(cells.reference * worth_a, cells.current.sum() * worth_b, level=level),
        "chi2": chi2,
        "chi2_p": p,
        "cramers_v": methods.cramers_v(chi2, rows, count),
        "js": methods.jensen_shannon_distance(cells.reference, cells.current),
    }


def _alarm_p(cells: Cells, numbers: Mapping[str, Any], design: Design, worth_a: float, worth_b: float) -> float:
    """Return the p-value that the alarm rests on.

    The cells' chi-square where the column is discrete; else Kolmogorov-Smirnov, which sees a spike, and Cramér-von Mises,
    which sees a shift a third sooner, and the cells' chi-square as well where rows are missing. Rows with values that the
    reference lacks are judged by themselves. The smallest counts, times the number of views (Bonferroni). Where past windows
    are known, the current one must stand out from them too: its chi-square per degree of freedom against theirs, an F-test
    (Rao & Scott 1984 for the scaling, Satterthwaite for the degrees of freedom).
    """
    views = [] if cells.discrete else [float(numbers["ks_p"]), float(numbers["cvm_p"])]
    if cells.discrete or MISSING in cells.labels:
        # which numbers the reference lacks is its own doing: with them the table would be no fair one
        fair = cells.without(ANOTHER)
        views.append(methods.table_p(fair.reference * worth_a, fair.current * worth_b))
    if cells.unseen is not None:
        rows = (float(cells.reference.sum()) * worth_a, float(cells.current.sum()) * worth_b)
        views.append(methods.unseen_p(cells.unseen.rows * worth_b, cells.unseen.counts, *rows))
    known = [p for p in views if math.isfinite(p)]
    p = min(1.0, len(known) * min(known)) if known else math.nan
    freedom = len(cells.labels) - 1
    if design.windows < 2 or design.past <= 0 or freedom < 1:
        return p
    from scipy import stats

    # never taken for less variable than independent rows would be
    ratio = float(numbers["chi2"]) / freedom / max(design.past, 1.0)
    among_windows = float(stats.f.sf(ratio, design.past_df, design.past_df * design.windows))
    return max(p, among_windows)


def _judged(draft: FeatureDrift, q: float, alpha: float, min_psi: float, suppressed: str, limit: float) -> FeatureDrift:
    if suppressed and draft.verdict is not DriftVerdict.INSUFFICIENT:
        would = draft.broken or (math.isfinite(q) and q <= alpha)
        note = f"suppressed{' (it would have alarmed)' if would else ''}: {suppressed}"
        return dataclasses.replace(draft, q=q, verdict=DriftVerdict.STABLE, retrain=False, broken=False, reason=note)
    if draft.p is None:
        return draft
    drifted = math.isfinite(q) and q <= alpha and (draft.psi or 0.0) >= limit
    retrain = drifted and draft.psi_present is not None and draft.psi_present >= min_psi
    verdict = DriftVerdict.DRIFT if drifted else DriftVerdict.STABLE
    return dataclasses.replace(draft, q=q, verdict=verdict, retrain=retrain)
