"""Hooks that a conftest.py or another plugin may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from pytest_mlgates.results import GateResult, RunReport


def pytest_mlgates_verdict(config: pytest.Config, result: GateResult) -> None:
    """Be told of each verdict as it arrives, on the process that reports.

    Example::

        def pytest_mlgates_verdict(config, result):
            if result.verdict == "fail":
                print(f"{result.model} v{result.version}: {result.gate}")
    """


def pytest_mlgates_report(config: pytest.Config, report: RunReport) -> None:
    """Be told of the whole run of one model version, after its evidence was stored.

    Example::

        def pytest_mlgates_report(config, report):
            dashboard.send(report.model, report.version, report.verdict)
    """
