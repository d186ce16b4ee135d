"""Size and seconds of the two pages at full size, and how soon a browser can be used: ``python benchmarks/pages.py``.

The report: evidence of 1,000,000 rows, 50 features, 200 slices. The operations page: 365 days x 50 features x 5 models, noise in
every cell. Interactive is measured in Debian's chromium, where that and Playwright are there: from the start of the navigation
until the page is painted and its load event is over, and the answer to the first click.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pytest_mlgates import checks, config, evidence
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.report.html import evidence_report
from pytest_mlgates.report.operations import operations_page
from pytest_mlgates.results import RunReport
from pytest_mlgates.services.operations import gather
from pytest_mlgates.tables import DRIFT_METRICS, SCHEMAS

ROWS, FEATURES, SLICES = 1_000_000, 50, 200
DAYS, MODELS = 365, 5


def sealed() -> evidence.Evidence:
    """Evidence of real checks over made-up rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=ROWS)
    p = 1 / (1 + np.exp(-x))
    y = rng.random(ROWS) < p
    frame = pd.DataFrame({f"f{i}": rng.integers(0, 4, ROWS) for i in range(FEATURES)})
    slices = pd.DataFrame({"segment": rng.integers(0, SLICES, ROWS).astype(str)})
    groups = pd.DataFrame({"race": rng.integers(0, 5, ROWS).astype(str)})
    results = (
        checks.performance(y, p, 1 / (1 + np.exp(-0.7 * x)), metric="auc", task="binary"),
        checks.fairness(y, p, groups, task="binary"),
        checks.latency(rng.lognormal(-4, 0.5, 16_000)),
        checks.calibration(y, p, task="binary", slices=slices),
        checks.weak_slices(y, p, frame, task="binary"),
    )
    report = RunReport("model", "3", results, tuple(r.gate for r in results))
    return evidence.build(
        report,
        model={"name": "model", "version": "3", "run_id": "r", "artifact_digest": "sha256:a"},
        holdout={"table": "lh_gold.holdout", "version": 3, "digest": "sha256:h", "rows": ROWS},
        baseline=None,
        settings_digest="sha256:s",
        git={"sha": "abc", "dirty": False},
        environment={},
        created=dt.datetime.now(dt.UTC),
    )


class _Nothing:
    uri = "none"

    def names(self) -> list[str]:
        return []

    def rows(self) -> list[Any]:
        return []


def document(folder: str) -> dict[str, Any]:
    """The document of a year of drift runs, noise in every cell."""
    store = Lakehouse(folder)
    store.create(DRIFT_METRICS, SCHEMAS[DRIFT_METRICS])
    rng = np.random.default_rng(0)
    now = dt.datetime.now(dt.UTC)
    days = np.repeat(np.arange(DAYS), FEATURES)
    for model in range(MODELS):
        for metric in ("psi", "q"):
            frame = pd.DataFrame(
                {
                    "run_id": [f"{model}-{d}" for d in days],
                    "run_timestamp": [now - dt.timedelta(days=DAYS - 1 - int(d), hours=1) for d in days],
                    "model_name": f"model-{model}", "model_version": "1",
                    "feature_name": [f"feature_{i}" for i in np.tile(np.arange(FEATURES), DAYS)], "metric_type": metric,
                    "value": rng.gamma(1.0, 0.1, len(days)), "threshold": 0.1, "status": "stable", "severity": "",
                    "reference_days": 90, "current_days": 7,
                }
            )  # fmt: skip
            store.append(DRIFT_METRICS, pa.Table.from_pandas(frame, preserve_index=False))
    settings = config.parse_settings({"models": {"m": {"task": "regression", "target": "y", "holdout": "h.csv"}}})
    begin = time.process_time()
    found = gather(_Nothing(), store, _Nothing(), settings, now=now)  # type: ignore[arg-type]
    print(f"operations, read       {time.process_time() - begin:6.2f} CPU s")
    return found


_TIMES = """() => {
  const n = performance.getEntriesByType('navigation')[0], p = performance.getEntriesByName('first-contentful-paint')[0];
  return [n.domInteractive, p ? p.startTime : NaN, n.loadEventEnd];
}"""


def in_browser(name: str, path: Path, width: int) -> None:
    """Print when the page can be used, best of three, in milliseconds."""
    from playwright.sync_api import sync_playwright

    binary = shutil.which("chromium")
    if binary is None:
        print("no chromium: apt-get install chromium")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-background-networking"])
        found = []
        for _ in range(3):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(path.as_uri())
            page.wait_for_timeout(100)
            parsed, painted, loaded = page.evaluate(_TIMES)
            begin = time.perf_counter()
            page.locator("summary").first.click()
            page.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
            found.append((max(parsed, painted, loaded), parsed, painted, loaded, 1e3 * (time.perf_counter() - begin)))
            page.close()
        browser.close()
    ready, parsed, painted, loaded, click = min(found)
    print(
        f"{name} {width:>4} px  interactive {ready:5.0f} ms (parsed {parsed:.0f}, painted {painted:.0f}, loaded {loaded:.0f}); "
        f"a click is answered in {click:.0f} ms"
    )


def main() -> None:
    """Print the figures."""
    report, operations = (Path(tempfile.mkdtemp()) / name for name in ("report.html", "operations.html"))
    data = sealed().to_bytes()
    begin = time.process_time()
    page = evidence_report(evidence.parse(data))
    print(
        f"report                 {time.process_time() - begin:6.2f} CPU s  {len(page.encode()):>9,} bytes (evidence {len(data):,})"
    )
    report.write_text(page, "utf-8")
    with tempfile.TemporaryDirectory() as folder:
        found = document(folder)
    begin = time.process_time()
    page = operations_page(found)
    print(f"operations, rendered   {time.process_time() - begin:6.2f} CPU s  {len(page.encode()):>9,} bytes")
    operations.write_text(page, "utf-8")
    for name, path in (("report    ", report), ("operations", operations)):
        for width in (1280, 390):
            in_browser(name, path, width)
    print(f"pages {report} {operations}")


if __name__ == "__main__":
    main()
