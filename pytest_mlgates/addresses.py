"""Addresses of an endpoint's pages, and the variable that holds its token."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from pytest_mlgates.errors import EndpointError

TOKEN_VARIABLE = "MLGATES_ENDPOINT_TOKEN"  # noqa: S105 the name of a variable, not a token


def sibling(uri: str, page: str) -> str:
    """Address of another page of the server that ``uri`` scores on: ``http://host:1/score`` and ``/health`` give ``http://host:1/health``.

    Raises
    ------
    EndpointError
        ``uri`` is no http address.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise EndpointError(f"{uri!r} is not an endpoint's address; expected something like http://127.0.0.1:8000/score")
    base = parts.path.removesuffix("/").removesuffix("/score")
    return urlunsplit((parts.scheme, parts.netloc, base + page, "", ""))


def scoring_uri(uri: str) -> str:
    """Address to post rows to: a bare ``http://host:port`` gets ``/score``."""
    return uri if urlsplit(uri).path.strip("/") else sibling(uri, "/score")
