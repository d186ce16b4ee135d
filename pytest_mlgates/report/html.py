"""The evidence report: sealed documents to one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mlgates.report import page, view

if TYPE_CHECKING:
    from pytest_mlgates.evidence import Evidence


def evidence_report(*documents: Evidence) -> str:
    """Return the page of one document or several; needs nothing but the documents."""
    return page.render("evidence.html", **view.evidence_pages(documents))
