"""Exact mode against scipy; the bracket of the streaming mode holds the exact value; parts add up."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from pytest_mlgates.drift import Profile, compare, methods
from pytest_mlgates.drift.cells import numeric_cells
from pytest_mlgates.drift.distributions import Exact
from pytest_mlgates.drift.profile import build_profile, profile_rows
from pytest_mlgates.drift.sources import ArrowSource, StreamSource

CLOSE = 1e-9


def frame(rng, rows, shift=0.0, scale=1.0):
    return pd.DataFrame(
        {
            "smooth": rng.normal(shift, scale, rows),
            "zeros": np.where(rng.random(rows) < 0.6, 0.0, rng.exponential(scale, rows) + shift),
            "heavy": rng.standard_t(2, rows) * scale + shift,
            "count": rng.poisson(2 + shift, rows),
            "colour": rng.choice(list("abcde"), rows, p=np.array([4, 3, 2, 1, 1 + 4 * shift]) / (11 + 4 * shift)),
        }
    )


@pytest.fixture(scope="module", params=[0.0, 0.1, 0.7], ids=lambda s: f"shift {s}")
def windows(request):
    rng = np.random.default_rng(11)
    return frame(rng, 30_000), frame(rng, 7_000, request.param, 1 + request.param / 5)


@pytest.mark.parametrize("column", ["smooth", "zeros", "heavy", "count"])
def test_exact_mode_equals_scipy(windows, column):
    """KS, its p-value, Wasserstein, JS and chi-square equal scipy's to 1e-9."""
    a, b = windows
    found = compare(a, b, columns=[column], mode="exact")[column]
    known = stats.ks_2samp(a[column], b[column], method="asymp")
    assert found.ks == pytest.approx(known.statistic, abs=CLOSE)
    assert found.ks_p == pytest.approx(known.pvalue, abs=CLOSE)
    distance = stats.wasserstein_distance(a[column], b[column]) / a[column].std(ddof=0)
    assert found.wasserstein == pytest.approx(distance, abs=CLOSE)
    cells = numeric_cells(*(Exact(np.sort(f[column].to_numpy(float))) for f in (a, b)))
    chi2 = stats.chi2_contingency([cells.reference, cells.current], correction=False)
    assert found.chi2 == pytest.approx(chi2.statistic, rel=CLOSE)
    assert found.js == pytest.approx(jensenshannon(cells.reference, cells.current, base=2), abs=CLOSE)
    assert found.cramers_v == pytest.approx(
        stats.contingency.association(np.array([cells.reference, cells.current]).astype(int), method="cramer"), abs=CLOSE
    )


def test_psi_equals_a_loop(windows):
    """The smoothed PSI of a smooth column over its ten quantile bins, computed a row at a time."""
    a, b = windows
    edges = np.quantile(a["smooth"], np.arange(1, 10) / 10, method="inverted_cdf")
    p, q = np.zeros(10), np.zeros(10)
    for counts, column in ((p, a["smooth"]), (q, b["smooth"])):
        for cell in np.searchsorted(edges, column, side="left"):
            counts[cell] += 1
    p, q = (p + 0.5) / (len(a) + 5), (q + 0.5) / (len(b) + 5)
    expected = sum((y - x) * np.log(y / x) for x, y in zip(p, q, strict=True))
    assert compare(a, b, columns=["smooth"], mode="exact")["smooth"].psi == pytest.approx(expected, abs=CLOSE)


def test_chi_square_of_categories_equals_scipy(windows):
    a, b = windows
    table = pd.DataFrame({"a": a["colour"].value_counts(), "b": b["colour"].value_counts()}).to_numpy().T
    known = stats.chi2_contingency(table, correction=False)
    found = compare(a, b, columns=["colour"], mode="exact")["colour"]
    assert found.chi2 == pytest.approx(known.statistic, rel=CLOSE)
    assert found.chi2_p == pytest.approx(known.pvalue, abs=CLOSE)
    assert found.ks is None


@pytest.fixture(scope="module", params=[0.0, 0.3], ids=lambda s: f"shift {s}")
def many_rows(request):
    rng = np.random.default_rng(12)
    return frame(rng, 400_000), frame(rng, 100_000, request.param, 1 + request.param / 5)


@pytest.mark.parametrize("column", ["smooth", "zeros", "heavy", "count"])
def test_streaming_brackets_hold_the_exact_value(many_rows, column):
    """Streaming KS lies within 2e-4 of the exact one, its bracket is at most 1.5e-3 wide, and holds the exact value."""
    a, b = many_rows
    exact = compare(a, b, columns=[column], mode="exact")[column]
    found = compare(a, b, columns=[column], mode="profile")[column]
    assert found.ks == pytest.approx(exact.ks, abs=2e-4)
    assert found.ks_low - CLOSE <= exact.ks <= found.ks_high + CLOSE
    assert found.ks_high - found.ks_low <= 1.5e-3
    assert found.wasserstein_low - CLOSE <= exact.wasserstein <= found.wasserstein_high + CLOSE


@pytest.mark.parametrize(("n", "m"), [(100_000, 20_000), (300_000, 60_000)])
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_streaming_ks_is_near_whatever_the_seed(n, m, shift):
    """Within 2e-4 ten times in a row; the value at the edges alone is up to 3e-4 too low at these sizes."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        one, two = (pa.table({"v": v}) for v in (rng.normal(size=n), rng.normal(shift, 1, m)))
        exact, found = (compare(one, two, mode=mode)["v"] for mode in ("exact", "profile"))
        assert found.ks == pytest.approx(exact.ks, abs=2e-4)
        assert found.ks_low - CLOSE <= exact.ks <= found.ks_high + CLOSE


values = st.lists(st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-3, 3).map(float), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(values, values, st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=5, unique=True))
def test_brackets_hold_whatever_the_edges(a, b, edges):
    """Any edges, also foolish ones: the brackets still hold the exact distances."""
    x, y = np.array(a), np.array(b)
    exact = Exact(np.sort(x)), Exact(np.sort(y))
    known = {"v": np.sort(np.array(edges))}
    one, two = (
        build_profile(t.to_batches(), t.schema, ["v"], known).columns["v"] for t in (pa.table({"v": x}), pa.table({"v": y}))
    )
    ks, area, _ = one.distances(two, 0.5)
    exact_ks, exact_area, _ = exact[0].distances(exact[1], 0.5)
    slack = 1e-6 * (1 + np.abs(np.concatenate([x, y])).max())
    assert ks.low - CLOSE <= exact_ks.value <= ks.high + CLOSE
    assert area.low - slack <= exact_area.value <= area.high + slack
    points = np.concatenate([x, y])
    by_definition = max(abs((x <= p).mean() - (y <= p).mean()) for p in points)
    assert exact_ks.value == pytest.approx(by_definition, abs=CLOSE)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3) | st.none() | st.just(float("nan")), min_size=2, max_size=80), st.integers(1, 79))
def test_profiles_of_parts_add_up(rows, cut):
    """Cut anywhere: counts are the same, sums agree to rounding."""
    table = pa.table({"v": pa.array(rows, pa.float64()), "c": pa.array([None if r is None else str(r)[:2] for r in rows])})
    edges = {"v": np.array([-1.0, 0.0, 2.5])}
    parts = [build_profile(t.to_batches(), t.schema, ["v", "c"], edges) for t in (table[:cut], table[cut:], table)]
    added, whole = parts[0] + parts[1], parts[2]
    assert added.rows == whole.rows
    assert np.array_equal(added.columns["v"].less, whole.columns["v"].less)
    assert np.array_equal(added.columns["v"].equal, whole.columns["v"].equal)
    assert added.columns["v"].missing == whole.columns["v"].missing
    assert np.allclose(added.columns["v"].sums, whole.columns["v"].sums, atol=1e-9)
    assert added.columns["v"].moments.m2 == pytest.approx(whole.columns["v"].moments.m2, abs=1e-6)
    assert added.columns["c"].counts == whole.columns["c"].counts


def test_stored_profile_gives_the_same_report(windows):
    """A reference that went through bytes judges as the one that did not."""
    a, b = (pa.Table.from_pandas(w) for w in windows)
    profile = profile_rows(ArrowSource(a), a.column_names)
    again = Profile.from_bytes(profile.to_bytes())
    assert compare(again, b).to_dict() == compare(profile, b).to_dict()
    assert len(profile.to_bytes()) < 5 * 40_000


def test_rows_in_order_are_profiled_at_even_edges():
    """A column that rises with time: the first rows tell nothing of the rest, the bracket stays narrow all the same."""
    rng = np.random.default_rng(5)
    rising = pa.table({"v": np.arange(600_000) / 1000 + rng.normal(size=600_000)})
    source = StreamSource(lambda columns: rising.select(list(columns)).to_batches(max_chunksize=8192), rising.schema)
    found = compare(source, rising[400_000:], mode="profile")["v"]
    known = stats.ks_2samp(rising["v"].to_numpy(), rising["v"][400_000:].to_numpy(), method="asymp").statistic
    assert found.ks_low - CLOSE <= known <= found.ks_high + CLOSE
    assert found.ks == pytest.approx(known, abs=2e-4)


@pytest.mark.parametrize("rows", [10_001, 200_000])
@pytest.mark.parametrize(("x", "close"), [(0.6, 1e-4), (1.2, 1e-4), (1.63, 1e-4), (2.5, 2e-3)])
def test_large_sample_ks_p_agrees_with_the_exact_one(rows, x, close):
    """Relative to the p-value itself, as the docstring states: 1e-4 down to p = 0.01, 0.2 % at p = 1e-5."""
    exact = stats.kstwo.sf(x / np.sqrt(rows), rows)
    assert methods.kolmogorov_p(x / np.sqrt(rows), 2 * rows, 2 * rows) == pytest.approx(exact, rel=close, abs=0)


@pytest.mark.parametrize(("x", "p"), [(0.34730, 0.10), (0.46136, 0.05), (0.74346, 0.01), (1.16786, 0.001)])
def test_cramer_von_mises_points_of_the_tables(x, p):
    """Upper points of the limit distribution (Anderson & Darling 1952; Csörgő & Faraway 1996)."""
    assert methods.cramer_von_mises_p(x / 500, 1000, 1000) == pytest.approx(p, rel=0.005 if p > 0.001 else 0.04)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1])
def test_cramer_von_mises_p_is_scipys(shift):
    """scipy's statistic has other small-sample terms: a few hundredths of the p-value at these sizes."""
    rng = np.random.default_rng(21)
    x, y = rng.normal(size=3000), rng.normal(shift, size=1500)
    known = stats.cramervonmises_2samp(x, y, method="asymptotic").pvalue
    for mode in ("exact", "profile"):
        found = compare(pa.table({"v": x}), pa.table({"v": y}), mode=mode)["v"]
        assert found.cvm_p == pytest.approx(known, rel=0.03)


def test_ties_never_raise_the_cramer_von_mises_distance_above_chance():
    """Values rounded to a few steps: the share of small p-values stays below its level, to the noise of 2,000 runs."""
    rng = np.random.default_rng(22)
    for step in (0.1, 1.0):
        p = []
        for _ in range(2000):
            a, b = (Exact(np.sort(np.round(rng.normal(size=n) / step) * step)) for n in (300, 120))
            p.append(methods.cramer_von_mises_p(a.distances(b, 300 / 420).squared, 300, 120))
        assert np.mean(np.array(p) < 0.05) < 0.05 + 2.33 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(("shares", "level"), [([0.98, 0.02], 1e-3), ([0.9, 0.06, 0.02, 0.02], 1e-3), ([0.5, 0.3, 0.2], 1e-2)])
def test_table_p_is_smaller_than_its_level_no_more_often(shares, level):
    """2 x cells tables of 2,700 and 350 rows without drift, a few expected counts near 7."""
    rng = np.random.default_rng(23)
    tables = zip(rng.multinomial(2700, shares, 4000), rng.multinomial(350, shares, 4000), strict=True)
    p = np.array([methods.table_p(a, b) for a, b in tables])
    assert np.mean(p < level) <= level + 3 * np.sqrt(level / 4000)


@pytest.mark.parametrize("table", [([2665, 35], [335, 16]), ([5, 95], [30, 70])])
def test_two_cells_are_judged_by_fishers_distribution(table):
    """Two-sided by the size of the gap; scipy's Fisher sums tables by their probability, which agrees to a few tenths."""
    assert np.log(methods.table_p(*table)) == pytest.approx(np.log(stats.fisher_exact(table).pvalue), abs=0.4)


def test_unseen_p_bounds_what_is_simulated():
    """500 even categories: how many current rows are in categories that the reference lacks, drawn 400 times."""
    rng = np.random.default_rng(24)
    p = []
    for _ in range(400):
        a, b = (np.bincount(rng.integers(0, 500, rows), minlength=500) for rows in (900, 300))
        p.append(methods.unseen_p(b[a == 0].sum(), a + b, 900, 300))
    for level in (0.5, 0.1, 0.01):
        assert np.mean(np.array(p) < level) <= level + 2 * np.sqrt(level / 400)
    assert min(p) < 0.2


def test_benjamini_hochberg_equals_scipy():
    p = np.random.default_rng(3).random(40) ** 3
    assert methods.benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p), abs=1e-12)
    assert methods.benjamini_yekutieli(p) == pytest.approx(stats.false_discovery_control(p, method="by"), abs=1e-12)
    with_gap = methods.benjamini_hochberg([0.01, np.nan, 0.02])
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.02])
    assert np.isnan(with_gap[1])


@pytest.mark.parametrize(("n", "m"), [(270, 120), (2_700, 360), (50_000, 5_000)])
def test_psi_threshold_is_what_chance_exceeds_once_in_a_hundred(n, m):
    rng = np.random.default_rng(8)
    reference = rng.multinomial(n, np.full(10, 0.1), size=4000)
    current = rng.multinomial(m, np.full(10, 0.1), size=4000)
    psi = [methods.population_stability_index(a, b) for a, b in zip(reference, current, strict=True)]
    over = np.mean(np.array(psi) > methods.psi_null_quantile(np.full(10, n / 10), m, level=0.99))
    assert 0.003 < over < 0.02
