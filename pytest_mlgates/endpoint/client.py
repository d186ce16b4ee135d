"""Client of an endpoint's scoring side: score, health, schema. The control side is `control_client`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx

from pytest_mlgates.addresses import TOKEN_VARIABLE, scoring_uri, sibling
from pytest_mlgates.errors import EndpointError

_LONGEST_WAIT_S = 60.0


class EndpointClient:
    """One scoring endpoint.

    Parameters
    ----------
    uri
        Scoring URI, or the server's bare address.
    token
        Bearer token; by default the environment's ``MLGATES_ENDPOINT_TOKEN``.
    timeout_s
        For connecting and for each answer.
    retries
        Tries after the first, for what is safe to repeat: scoring changes nothing, so a connection reset, 429 and 503 are tried again.
    """

    def __init__(self, uri: str, token: str | None = None, *, timeout_s: float = 30.0, retries: int = 3) -> None:
        self.uri = scoring_uri(uri)
        token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(headers=headers, timeout=timeout_s)
        self._retries = retries

    def __enter__(self) -> EndpointClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def score(
        self, rows: Sequence[Mapping[str, Any]] | Any, *, request_id: str | None = None, columns: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Score rows and return the answer: ``predictions``, ``model_name``, ``model_version``, ``latency_ms``.

        Parameters
        ----------
        rows
            Mappings from column to value, a data frame, or (with ``columns``) lists of values.
        request_id
            Sent as ``x-request-id``; decides which version of a split answers.

        Raises
        ------
        EndpointError
            The endpoint cannot be reached or refused the rows; the message is the endpoint's own.
        """
        body = {"input_data": split_rows(rows, columns)}
        headers = {"x-request-id": request_id} if request_id else {}
        answer = self._ask("POST", self.uri, json=body, headers=headers)
        return dict(answer.json())

    def health(self) -> dict[str, Any]:
        """What ``/health`` says; raises EndpointError unless it is 200."""
        return dict(self._ask("GET", sibling(self.uri, "/health")).json())

    def schema(self) -> dict[str, Any]:
        """Input columns of the version in service."""
        return dict(self._ask("GET", sibling(self.uri, "/schema")).json())

    def metrics(self) -> str:
        """Prometheus text."""
        return self._ask("GET", sibling(self.uri, "/metrics")).text

    def _ask(self, method: str, url: str, **given: Any) -> httpx.Response:
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                answer = self._client.request(method, url, **given)
            except httpx.HTTPError as error:
                if last or not isinstance(
                    error, (httpx.RemoteProtocolError, httpx.ConnectError, httpx.ReadError, httpx.WriteError)
                ):
                    raise EndpointError(
                        f"{url} did not answer: {type(error).__name__}: {error}; is the endpoint running?"
                    ) from error
                time.sleep(0.05 * 2**attempt)
                continue
            if answer.status_code in (429, 503) and not last:
                time.sleep(retry_after(answer, default=0.2 * 2**attempt))
                continue
            if answer.status_code != 200:
                raise EndpointError(f"{url} answered {answer.status_code}: {message_of(answer)}")
            return answer
        raise AssertionError("unreachable")


def split_rows(rows: Any, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Return ``{"columns": […], "data": [[…]]}`` of mappings, a data frame, or lists with ``columns``."""
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        split = rows.to_dict(orient="split")
        return {"columns": list(split["columns"]), "data": split["data"]}
    listed = list(rows)
    if columns is not None:
        return {"columns": list(columns), "data": [list(row) for row in listed]}
    names = list(listed[0]) if listed else []
    return {"columns": names, "data": [[row.get(name) for name in names] for row in listed]}


def retry_after(answer: httpx.Response, *, default: float) -> float:
    """Seconds that ``Retry-After`` asks for (at most 60), else ``default``."""
    try:
        return min(max(float(answer.headers.get("retry-after", "")), 0.0), _LONGEST_WAIT_S)
    except ValueError:
        return default


def message_of(answer: httpx.Response) -> str:
    """The endpoint's own words, shortened."""
    try:
        found = answer.json()
        text = (
            f"{found.get('errorCode', '')}: {found.get('message', '')}".strip(": ") if isinstance(found, dict) else answer.text
        )
    except ValueError:
        text = answer.text
    return " ".join(text.split())[:300]
