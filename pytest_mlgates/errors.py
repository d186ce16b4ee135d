"""Everything that can go wrong, one class per decision that a caller can take.

::

    MlgatesError                 exit 1
    ├── UsageProblem             exit 4   the caller wrote something that cannot be run: mend it and call again
    │   ├── ConfigError                   a settings file
    │   ├── ModelNotFound                 a model, version, stage or alias that the registry does not have
    │   └── ExtraMissing                  an optional part is not installed
    ├── RegistryUnavailable      exit 1   try again when the registry answers
    ├── LakehouseError           exit 1   a table is absent, or does not have the columns it should have
    ├── WriteConflict            exit 1   somebody else wrote first: read again, then decide
    ├── DataUnusable             exit 1   a holdout, baseline or window that cannot be judged
    ├── ModelUnusable            exit 1   a model that cannot be loaded or does not answer
    ├── EvidenceInvalid          exit 1   evidence absent, altered, stale or for something else
    ├── PromotionRefused         exit 1   the policy says no
    ├── AuditBroken              exit 1   the audit chain does not verify
    ├── EndpointError            exit 1   an endpoint that does not answer as it should
    └── DeliveryFailed           exit 1   an alert that reached no one

A message says what was found, what was expected and what to do, in that order, on one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_DRIFT = 3
EXIT_USAGE = 4


class MlgatesError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = EXIT_FAILED


class UsageProblem(MlgatesError):
    """What was asked for cannot be run as it is written."""

    exit_code = EXIT_USAGE


class ConfigError(UsageProblem):
    """A settings file that is absent, unreadable or wrong; ``problems`` holds every mistake found."""

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message)


class ModelNotFound(UsageProblem):
    """A model, version, stage or alias that the registry does not have."""

    @classmethod
    def among(cls, what: str, wanted: str, known: Iterable[str], *, where: str) -> ModelNotFound:
        """Name what is missing, where it was looked for, and the nearest that exists."""
        return cls(f"{what} {wanted!r} is not in the registry at {where}; {nearest(wanted, known)}")


class ExtraMissing(UsageProblem):
    """An optional part is not installed; the message gives the command that installs it."""

    @classmethod
    def of(cls, module: str, extra: str, purpose: str) -> ExtraMissing:
        """Name the module, what needs it and the command."""
        return cls(f"{purpose} needs {module}, which is not installed; run: pip install 'pytest-mlgates[{extra}]'")


class RegistryUnavailable(MlgatesError):
    """The registry did not answer."""


class LakehouseError(MlgatesError):
    """A table that is absent, or that does not have the columns it should have."""


class WriteConflict(MlgatesError):
    """Another writer came first; nothing was written."""


class DataUnusable(MlgatesError):
    """Data that cannot be judged."""


class ModelUnusable(MlgatesError):
    """A model that cannot be loaded, or that does not answer with one finite number per row."""


class EvidenceInvalid(MlgatesError):
    """Evidence that is absent, altered, stale or for something else."""


class PromotionRefused(MlgatesError):
    """The promotion policy says no; ``reasons`` holds each."""

    def __init__(self, message: str, reasons: Iterable[str] = ()) -> None:
        self.reasons = tuple(reasons)
        super().__init__(message)


class AuditBroken(MlgatesError):
    """The audit chain does not verify."""


class EndpointError(MlgatesError):
    """An endpoint that does not answer as it should."""


class DeliveryFailed(MlgatesError):
    """An alert that reached no one."""


def nearest(wanted: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, or list the known names (at most eight)."""
    names = sorted({str(k) for k in known})
    close = difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if not names:
        return "there is none yet"
    shown = ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
    return f"there are: {shown}"
