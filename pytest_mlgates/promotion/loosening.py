"""Which settings does a change loosen? Two settings in, every difference out, each judged; pure.

The direction of each threshold stands in one table. A setting that decides about promotion and is not in the table counts as
loosened by any change: somebody has to look at it.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings

HIGHER_IS_STRICTER = frozenset(
    {
        "gates.performance.min_ratio", "gates.performance.floor", "gates.fairness.min_parity_ratio", "gates.latency.calls",
        "gates.latency.max_calls", "gates.latency.budget_s", "gates.calibration.bins", "checks.bounds.low", "confidence",
        "regulated", "drift.alpha", "policy.consecutive_wins", "policy.min_e_value", "gates.holdout.exact",
        "checks.schema", "checks.determinism", "checks.batch", "checks.robustness", "checks.feature_leakage", "checks.dummy",
        "checks.weak_slices", "alerts.enabled",
    }
)  # fmt: skip
LOWER_IS_STRICTER = frozenset(
    {
        "gates.holdout.max_gap", "gates.holdout.max_shared_rows",
        "gates.fairness.max_tpr_gap", "gates.latency.p99_max_ms", "gates.calibration.max_ece", "checks.bounds.high",
        "checks.max_slice_ratio", "drift.min_psi", "drift.min_rows", "policy.max_age_days", "alerts.threshold",
    }
)  # fmt: skip
_DECIDING = (
    "gates.",
    "checks.",
    "policy.",
    "task",
    "target",
    "holdout",
    "baseline",
    "order_by",
    "sensitive",
    "on_inconclusive",
)
_STRICTNESS = {"on_inconclusive": ("warn", "block")}


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs; ``key`` is its whole path, as ``--allow`` takes it."""

    key: str
    before: Any
    after: Any
    loosens: bool


def compare(before: Settings, after: Settings) -> list[Change]:
    """Return every setting that differs and counts, the loosened ones first.

    A model's table is compared with the table that applied to the same name before, so that a new table which takes a model
    away from a stricter one shows.
    """
    found = [*_of_models(before, after)]
    old, new = _flat(before.policy.model_dump(mode="json")), _flat(after.policy.model_dump(mode="json"))
    found += _differences("policy.", "policy.", old, new)
    found += _of_alerts(before, after)
    return sorted(found, key=lambda change: not change.loosens)


def _of_models(before: Settings, after: Settings) -> Iterator[Change]:
    for pattern in dict.fromkeys([*after.models, *before.models]):
        path = f'models."{pattern}"'
        old, new = _applies(before, pattern), _applies(after, pattern)
        if old is None:
            may_take_over = _is_glob(pattern) and bool(before.models)
            yield Change(
                path,
                "no table",
                "a new table" + (", which may take models from others" if may_take_over else ""),
                may_take_over,
            )
        elif new is None:
            yield Change(path, "a table", "no table", loosens=True)
        else:
            yield from _differences(f"{path}.", "", _flat(old), _flat(new))
    common = [p for p in before.models if p in after.models]
    if common != [p for p in after.models if p in before.models]:
        yield Change("models (order of the tables)", common, list(after.models), loosens=True)


def _of_alerts(before: Settings, after: Settings) -> Iterator[Change]:
    old = {rule.name: rule for rule in before.alerts.rules}
    new = {rule.name: rule for rule in after.alerts.rules}
    for name, rule in old.items():
        if name not in new:
            yield Change(f'alerts.rules."{name}"', "a rule", "no rule", loosens=True)
            continue
        parts = ("enabled", "threshold")
        was, now = ({part: getattr(r, part) for part in parts} for r in (rule, new[name]))
        yield from _differences(f'alerts.rules."{name}".', "alerts.", was, now)


def _differences(path: str, prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        plain = prefix + key
        counts = plain in HIGHER_IS_STRICTER or plain in LOWER_IS_STRICTER or plain.startswith(_DECIDING)
        if old != new and counts:
            yield Change(path + key, old, new, _loosens(plain, old, new))


def _loosens(key: str, old: Any, new: Any) -> bool:
    if key in _STRICTNESS:
        order = _STRICTNESS[key]
        return order.index(new) < order.index(old)
    if key == "sensitive":
        return not set(old or ()) <= set(new or ())
    if key.startswith("policy.settings_digests"):
        return not (isinstance(new, list) and isinstance(old, list) and set(new) <= set(old))
    higher, lower = key in HIGHER_IS_STRICTER, key in LOWER_IS_STRICTER
    if not higher and not lower:
        return True
    if old is None or new is None:  # no limit at all is the loosest
        return new is None
    return bool(new < old) if higher else bool(new > old)


def _applies(settings: Settings, name: str) -> dict[str, Any] | None:
    """The table in force for a name, or for a glob taken as a name."""
    table = settings.models.get(name)
    if table is None:
        table = next((t for pattern, t in settings.models.items() if fnmatch.fnmatchcase(name, pattern)), None)
    return None if table is None else table.model_dump(mode="json", by_alias=True, exclude={"retrain"})


def _is_glob(pattern: str) -> bool:
    return any(c in pattern for c in "*?[")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one mapping with dotted keys; lists stay whole."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            out.update(_flat(value, f"{prefix}{key}."))
        elif not isinstance(value, Mapping):
            out[prefix + key] = value
    return out
