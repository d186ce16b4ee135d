"""Client of a control plane, ours or Fabric's: deploy, wait, update, pause, activate, score.

Both speak ``/v1/workspaces/{workspace}/mlmodels/{model}/…`` with a bearer token, 202 with ``Location`` and ``Retry-After`` for
what takes time, and
429 with ``Retry-After``. Reads are retried on connection trouble, 429 and 503; a change is retried on 429 alone, which says that nothing
was done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urljoin

import httpx

from pytest_mlgates.addresses import TOKEN_VARIABLE
from pytest_mlgates.endpoint.client import message_of, retry_after, split_rows
from pytest_mlgates.errors import EndpointError

FABRIC = "https://api.fabric.microsoft.com"
FABRIC_TOKEN_VARIABLE = "FABRIC_TOKEN"  # noqa: S105 the name of a variable, not a token
_TRIES = 5
_DONE = ("Succeeded", "Completed")
_FAILED = ("Failed", "Undefined", "Cancelled")


class ControlClient:
    """One model's endpoints in one workspace.

    Parameters
    ----------
    base
        Address of the control plane; `FABRIC` for the real thing.
    workspace, model
        Fabric: two GUIDs. Ours: any workspace name, and the registered model's name.
    token
        By default the environment's ``MLGATES_ENDPOINT_TOKEN``, for Fabric ``FABRIC_TOKEN``.
    """

    def __init__(self, base: str, workspace: str, model: str, token: str | None = None, *, timeout_s: float = 30.0) -> None:
        if token is None:
            token = os.environ.get(FABRIC_TOKEN_VARIABLE if base.startswith(FABRIC) else TOKEN_VARIABLE, "")
        self._root = f"/v1/workspaces/{quote(workspace, safe='')}/mlmodels/{quote(model, safe='')}"
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=base.rstrip("/"), headers=headers, timeout=timeout_s)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # the tutorial's endpoints

    def create(self, definition: Mapping[str, Any], *, wait_s: float = 0.0) -> dict[str, Any]:
        """Create an endpoint from the tutorial's body; with ``wait_s`` wait until it is there, and return its description."""
        answer = self._ask("POST", "/endpoints", json=dict(definition))
        return self._finished(answer, wait_s, lambda: self.get(str(definition["name"])))

    def get(self, name: str) -> dict[str, Any]:
        """Describe an endpoint: definition, ``status``, ``scoringUri``."""
        return dict(self._ask("GET", f"/endpoints/{quote(name, safe='')}").json())

    def endpoints(self) -> list[dict[str, Any]]:
        """Describe all endpoints of the model."""
        return [dict(item) for item in self._ask("GET", "/endpoints").json()["value"]]

    def update(self, name: str, change: Mapping[str, Any], *, wait_s: float = 0.0) -> dict[str, Any]:
        """Change fields of an endpoint."""
        answer = self._ask("PATCH", f"/endpoints/{quote(name, safe='')}", json=dict(change))
        return self._finished(answer, wait_s, lambda: self.get(name))

    def pause(self, name: str, *, wait_s: float = 0.0) -> dict[str, Any]:
        """Stop all instances; the definition is kept (the tutorial's cleanup)."""
        return self.update(name, {"minInstances": 0, "maxInstances": 0}, wait_s=wait_s)

    def delete(self, name: str, *, wait_s: float = 0.0) -> None:
        """Delete an endpoint."""
        self._finished(self._ask("DELETE", f"/endpoints/{quote(name, safe='')}"), wait_s, dict)

    def action(self, name: str, action: str, fields: Mapping[str, Any] | None = None, *, wait_s: float = 0.0) -> dict[str, Any]:
        """``rollback``, ``shadow`` or ``canary`` (ours only)."""
        answer = self._ask("POST", f"/endpoints/{quote(name, safe='')}/{action}", json=dict(fields or {}))
        return self._finished(answer, wait_s, lambda: self.get(name))

    # Fabric's published shapes

    def endpoint(self) -> dict[str, Any]:
        """The model's endpoint: default version and its state."""
        return dict(self._ask("GET", "/endpoint").json())

    def set_default(self, version: str) -> dict[str, Any]:
        """Make an active version the default."""
        body = {"defaultVersionName": version, "defaultVersionAssignmentBehavior": "StaticallyConfigured"}
        return dict(self._ask("PATCH", "/endpoint", json=body).json())

    def versions(self) -> list[dict[str, Any]]:
        """Versions that are active as endpoints, all pages."""
        found: list[dict[str, Any]] = []
        path = "/endpoint/versions"
        while True:
            page = self._ask("GET", path).json()
            found += page["value"]
            token = page.get("continuationToken")
            if not token:
                return found
            path = f"/endpoint/versions?continuationToken={quote(str(token), safe='')}"

    def activate(self, version: str, *, wait_s: float = 0.0) -> dict[str, Any]:
        """Activate a version."""
        answer = self._ask("POST", f"/endpoint/versions/{quote(version, safe='')}/activate")
        return self._finished(answer, wait_s, lambda: self.version(version))

    def deactivate(self, version: str, *, wait_s: float = 0.0) -> dict[str, Any]:
        """Deactivate a version."""
        answer = self._ask("POST", f"/endpoint/versions/{quote(version, safe='')}/deactivate")
        return self._finished(answer, wait_s, lambda: self.version(version))

    def version(self, version: str) -> dict[str, Any]:
        """State of one version."""
        return dict(self._ask("GET", f"/endpoint/versions/{quote(version, safe='')}").json())

    def score(self, rows: Sequence[Any], *, version: str | None = None, wait_s: float = 60.0) -> list[Any]:
        """Score rows (lists in the signature's order, mappings or a frame) through Fabric's shape; one prediction per row."""
        listed = [list(r) for r in rows] if len(rows) and isinstance(rows[0], (list, tuple)) else split_rows(rows)["data"]
        path = "/endpoint/score" if version is None else f"/endpoint/versions/{quote(version, safe='')}/score"
        body = {"formatType": "dataframe", "orientation": "values", "inputs": listed}
        answer = self._ask("POST", path, json=body, safe=True)
        found = self._operation_result(answer, wait_s) if answer.status_code == 202 else answer.json()
        return [row[0] if len(row) == 1 else row for row in found["predictions"]]

    def _finished(self, answer: httpx.Response, wait_s: float, describe: Any) -> dict[str, Any]:
        if answer.status_code == 202 and wait_s > 0:
            self.wait(answer, wait_s)
        if wait_s > 0:
            return dict(describe())
        return dict(answer.json()) if answer.content else {}

    def wait(self, answer: httpx.Response, wait_s: float) -> dict[str, Any]:
        """Follow ``Location`` until the operation is done. Raises EndpointError when it failed, or takes longer than ``wait_s``."""
        where = urljoin(str(self._client.base_url), answer.headers.get("location", ""))
        deadline = time.monotonic() + wait_s
        pause = min(retry_after(answer, default=1.0), 0.2 if "127.0.0.1" in where else 60.0)
        while True:
            time.sleep(max(min(pause, deadline - time.monotonic()), 0.0))
            state = dict(self._ask("GET", where).json())
            status = str(state.get("status", ""))
            if status in _DONE:
                return state
            if status in _FAILED:
                error = state.get("error") or {}
                raise EndpointError(f"the operation failed: {error.get('message', status)}")
            if time.monotonic() > deadline:
                raise EndpointError(f"the operation was {status or 'not done'} after {wait_s:g} s; it goes on: {where}")

    def _operation_result(self, answer: httpx.Response, wait_s: float) -> dict[str, Any]:
        self.wait(answer, wait_s)
        return dict(self._ask("GET", answer.headers["location"].rstrip("/") + "/result").json())

    def _ask(self, method: str, path: str, *, safe: bool = False, **given: Any) -> httpx.Response:
        url = path if path.startswith("http") else self._root + path
        repeatable = safe or method == "GET"
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                answer = self._client.request(method, url, **given)
            except httpx.HTTPError as error:
                if last or not (repeatable or isinstance(error, httpx.ConnectError)):
                    raise EndpointError(f"{method} {url}: no answer: {type(error).__name__}: {error}") from error
                time.sleep(0.2 * 2**attempt)
                continue
            if not last and (answer.status_code == 429 or (answer.status_code == 503 and repeatable)):
                time.sleep(retry_after(answer, default=0.5 * 2**attempt))
                continue
            if answer.status_code not in (200, 201, 202):
                raise EndpointError(f"{method} {url}: {answer.status_code}: {message_of(answer)}")
            return answer
        raise AssertionError("unreachable")
