"""``mlgates dashboard``: the operations page, as a file or served on this machine."""

from __future__ import annotations

import contextlib
import http.server
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import click

from pytest_mlgates.errors import EXIT_OK, EvidenceInvalid, MlgatesError, ModelNotFound, UsageProblem
from pytest_mlgates.garbage import usual_collections

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mlgates.wiring import Project


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Write the page to this file (default: mlgates-operations.html).")
@click.option(
    "--serve",
    is_flag=True,
    help="Serve it on 127.0.0.1 instead, and the evidence of each version at /report/NAME/VERSION; read anew for each look.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8790, show_default=True, help="Port for --serve; 0 takes a free one."
)
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How far back it looks.")
@click.pass_context
def dashboard(context: click.Context, out: Path | None, port: int, days: int, *, serve: bool) -> int:
    """Show what serves, the race, drift, alerts, promotions, the endpoint, batch runs, readiness and cost on one page."""
    from pytest_mlgates import progress
    from pytest_mlgates.pages import operations
    from pytest_mlgates.report import page
    from pytest_mlgates.wiring import Project

    project = Project.from_context(context)
    if not serve:
        with progress.waiting("reading the tables"):
            written = page.write(out or Path("mlgates-operations.html"), operations(project, days))
        click.echo(f"page {written}")
        return EXIT_OK
    if out is not None:
        raise UsageProblem("--out writes a file and --serve serves the page; give one of the two")
    with contextlib.suppress(MlgatesError), progress.waiting("opening the registry"):
        project.registry.names()  # imports what takes long now rather than at the first look
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _handler(lambda path: _page(project, days, path)))
    except OSError as error:
        raise UsageProblem(f"cannot listen on 127.0.0.1:{port}: {error.strerror}; choose another --port") from None
    click.echo(f"serving http://127.0.0.1:{server.server_address[1]}/ and /report/NAME/VERSION until Ctrl-C")
    usual_collections()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return EXIT_OK


def _page(project: Project, days: int, path: str) -> str | None:
    """The page at a path; ``None`` where there is none."""
    from pytest_mlgates.pages import operations
    from pytest_mlgates.report import html
    from pytest_mlgates.services import evidence_store

    parts = [unquote(part) for part in path.split("/")]
    if parts == ["", ""]:
        return operations(project, days)
    if len(parts) == 4 and parts[:2] == ["", "report"]:
        return html.evidence_report(evidence_store.latest(project.registry, project.registry.get(parts[2], parts[3])))
    return None


def _handler(make: Callable[[str], str | None]) -> type[http.server.BaseHTTPRequestHandler]:
    from pytest_mlgates.report import page

    class Handler(http.server.BaseHTTPRequestHandler):
        server_version = "mlgates"
        sys_version = ""

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in ("127.0.0.1", "localhost"):  # another name that resolves to this machine is somebody's page
                self._answer(421, "text/plain; charset=utf-8", b"ask for 127.0.0.1\n")
                return
            try:
                found = make(self.path.partition("?")[0])
            except MlgatesError as error:
                from pytest_mlgates.redaction import redacted

                status = 404 if isinstance(error, ModelNotFound | EvidenceInvalid) else 503
                self._answer(status, "text/plain; charset=utf-8", redacted(f"{error}\n").encode())
                return
            if found is None:
                self._answer(404, "text/plain; charset=utf-8", b"there are two kinds of page: / and /report/NAME/VERSION\n")
                return
            self._answer(200, "text/html; charset=utf-8", found.encode())

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            headers = {
                "Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store",
                "Content-Security-Policy": f"{page.policy()}; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
            }  # fmt: skip
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name is http.server's
            """Say nothing: a path is somebody else's text."""

    return Handler
