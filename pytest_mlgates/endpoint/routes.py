"""What an endpoint serves now: a small JSON file that the control side replaces and every worker watches.

A new file is a rolling update: each worker loads the versions that it does not have, proves them, then swaps its table between two
requests. No process ends, so no request can fail for it, and the old version answers until the new one is ready. Which version
answers a request depends on the request id alone (`Routes.pick`), so a retry meets the same version in any worker.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_mlgates.errors import EndpointError

BUCKETS = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """One version in service.

    ``folder`` holds its files, ``percent`` is its share of the traffic; ``proven`` is the way (``kernel``, ``native``) that was
    compared with MLflow's own answers before the version was put here, empty where each worker must ask MLflow itself. ``assumed``:
    that comparison is still to be made; the model's own description says that MLflow only calls its ``predict``.
    """

    version: str
    folder: str
    percent: float = 100.0
    proven: str = ""
    assumed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Routes:
    """One generation of what an endpoint serves.

    Attributes
    ----------
    generation
        Grows by one with every change; workers acknowledge it.
    model
        Registered name.
    selector
        Version, stage or ``@alias`` that is followed; empty: nothing is followed, the targets are pinned.
    targets
        Versions in service; their percents add up to 100.
    shadow
        Version that scores the same requests, unseen by the caller.
    """

    generation: int
    model: str
    selector: str
    targets: tuple[Target, ...]
    shadow: Target | None = None

    def __post_init__(self) -> None:
        total = sum(t.percent for t in self.targets)
        if self.targets and abs(total - 100.0) > 1e-6:
            shares = ", ".join(f"v{t.version} {t.percent:g} %" for t in self.targets)
            raise EndpointError(f"the traffic split must add up to 100 %, got {total:g} % ({shares})")
        if any(t.percent < 0 for t in self.targets):
            raise EndpointError("a share of the traffic cannot be negative")

    def pick(self, request_id: str) -> str:
        """Version that answers this request: the same for the same id, in every worker.

        The id's CRC-32 falls in one of 10,000 buckets, which the targets share in their order.
        """
        if len(self.targets) == 1:
            return self.targets[0].version
        bucket = zlib.crc32(request_id.encode()) % BUCKETS
        edge = 0.0
        for target in self.targets:
            edge += target.percent * BUCKETS / 100.0
            if bucket < edge:
                return target.version
        return self.targets[-1].version

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Routes:
        """Rebuild from `to_dict`."""
        shadow = data.get("shadow")
        return cls(
            generation=int(data["generation"]),
            model=str(data["model"]),
            selector=str(data["selector"]),
            targets=tuple(Target(**t) for t in data["targets"]),
            shadow=Target(**shadow) if shadow else None,
        )


class RoutesFile:
    """The file itself, in an endpoint's state folder, and the workers' acknowledgements beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "routes.json"

    def write(self, routes: Routes) -> None:
        """Replace the file in one step: a reader sees the old or the new one."""
        replace_json(self.path, routes.to_dict())

    def read(self) -> Routes:
        """Read the current generation. Raises EndpointError where there is none."""
        try:
            return Routes.from_dict(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            raise EndpointError(f"no endpoint state at {self.path}; start it with mlgates endpoint serve") from None

    def stamp(self) -> int:
        """Changes whenever the file is replaced; 0 while it is absent."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return 0
        return found.st_mtime_ns ^ found.st_ino

    def acknowledge(self, generation: int, error: str = "", stats: Mapping[str, Any] | None = None) -> None:
        """Say which generation this worker serves, why it does not serve the newest, and what it answered by version."""
        replace_json(
            self.folder / "workers" / f"{os.getpid()}.json",
            {"generation": generation, "error": error, "stats": dict(stats or {})},
        )

    def forget(self, pid: int) -> None:
        """Drop the acknowledgement of a worker that is gone."""
        (self.folder / "workers" / f"{pid}.json").unlink(missing_ok=True)

    def workers(self) -> dict[int, dict[str, Any]]:
        """Acknowledgements of the workers that are alive, by process id."""
        found = {}
        for path in (self.folder / "workers").glob("*.json"):
            pid = int(path.stem)
            if not _alive(pid):
                continue
            try:
                found[pid] = json.loads(path.read_bytes())
            except (FileNotFoundError, ValueError):
                continue
        return found


def replace_json(path: Path, value: Any) -> None:
    """Write JSON beside ``path`` and move it there: never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file)
    Path(scratch).replace(path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
