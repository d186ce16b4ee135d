"""Which settings does a change loosen? Two settings in, every difference out, each judged; pure.

The direction of each threshold stands in one table. What is in none of the tables counts as loosened by any change: somebody
has to look at it. Only what is listed in `NEUTRAL` decides about nothing.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_mlgates.config import AlertRule, Settings

HIGHER_IS_STRICTER = frozenset(
    {
        "gates.performance.min_ratio", "gates.performance.floor", "gates.fairness.min_parity_ratio", "gates.latency.calls",
        "gates.latency.max_calls", "gates.latency.budget_s", "gates.calibration.bins", "checks.bounds.low", "confidence",
        "regulated", "drift.alpha", "policy.consecutive_wins", "policy.min_e_value", "gates.holdout.exact",
        "checks.slices.min_ratio", "checks.slices.floor", "alerts.enabled", "alerts.lookback_hours", "alerts.retrain",
        "endpoint.concurrency",
    }
)  # fmt: skip
LOWER_IS_STRICTER = frozenset(
    {
        "gates.holdout.max_gap", "gates.holdout.max_shared_rows",
        "gates.fairness.max_tpr_gap", "gates.latency.p99_max_ms", "gates.calibration.max_ece", "checks.bounds.high",
        "checks.max_slice_ratio", "drift.min_psi", "drift.min_rows", "policy.max_age_days", "alerts.threshold",
        "alerts.sustained", "alerts.cooldown_days", "alerts.escalate", "endpoint.p99_max_ms",
    }
)  # fmt: skip
ORDERED = {"on_inconclusive": ("warn", "block"), "alerts.severity": ("P3", "P2", "P1")}
"""Words, the loosest first."""
MORE_IS_STRICTER = frozenset({"sensitive", "alerts.metrics", "alerts.channels", "endpoint.hash_columns"})
"""Lists that may grow."""
FEWER_IS_STRICTER = frozenset({"drift.events"})
"""Lists that may shrink."""
ANY_IS_STRICTER = frozenset({"gates.holdout.time_column"})
"""Names that may be given where none stood."""
NEUTRAL = frozenset(
    {
        "domain", "retrain", "drift.reference_days", "drift.current_days", "drift.schedule_days", "alerts.name", "alerts.queue",
        "alerts.links", "alerts.run_link", "alerts.summary_group", "tracking_uri", "path", "endpoint.max_rows", "endpoint.max_body_bytes",
    }
)  # fmt: skip
"""What decides about no promotion and no alarm."""
_JUDGED_APART = frozenset({"models", "policy", "alerts"})
_LOWER_METRICS = frozenset({"rmse", "mae", "mape", "log_loss", "brier"})
_HIGHER_METRICS = frozenset({"", "r2", "auc", "accuracy", "f1"})


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
    rest = (_flat(settings.model_dump(mode="json", exclude=set(_JUDGED_APART))) for settings in (before, after))
    found += _differences("", "", *rest)
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
    old, new = ({rule.name: rule for rule in settings.alerts.rules} for settings in (before, after))
    for name in dict.fromkeys([*old, *new]):
        path = f'alerts.rules."{name}"'
        if name not in new:
            yield Change(path, "a rule", "no rule", loosens=True)
        elif name not in old:
            yield Change(path, "no rule", "a rule", loosens=False)
        else:
            yield from _differences(f"{path}.", "alerts.", _of_rule(old[name]), _of_rule(new[name]))
    was, now = ({name: [c.label for c in g.channels] for name, g in s.alerts.groups.items()} for s in (before, after))
    for name in dict.fromkeys([*was, *now]):
        labels = ({"channels": groups.get(name, [])} for groups in (was, now))
        yield from _differences(f'alerts.groups."{name}".', "alerts.", *labels)
    apart = {"rules", "groups"}
    rest = (_flat(settings.alerts.model_dump(mode="json", exclude=apart)) for settings in (before, after))
    yield from _differences("alerts.", "alerts.", *rest)


def _of_rule(rule: AlertRule) -> dict[str, Any]:
    return _flat({**rule.model_dump(mode="json"), "cooldown_days": rule.cooldown})


def _differences(path: str, prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        plain = prefix + key
        if old != new and not _within(plain, NEUTRAL):
            yield Change(path + key, old, new, _loosens(plain, old, new, _metric(key, before), _metric(key, after)))


def _loosens(key: str, old: Any, new: Any, metric_before: str, metric_after: str) -> bool:
    general = _general(key)
    if general in ORDERED:
        order = ORDERED[general]
        return order.index(new) < order.index(old)
    if general in MORE_IS_STRICTER:
        return not set(old or ()) <= set(new or ())
    if general in FEWER_IS_STRICTER:
        return not set(new or ()) <= set(old or ())
    if general in ANY_IS_STRICTER:
        return bool(old)
    if key.startswith("policy.settings_digests"):
        return not (isinstance(new, list) and isinstance(old, list) and set(new) <= set(old))
    if key.startswith("checks.") and old is None:  # one more declared segment, direction or limit
        return False
    if key.startswith("drift.limits."):  # below its limit a feature does not alarm
        return new is not None and (old is None or new > old)
    if key.startswith("checks.") and isinstance(old, bool) and isinstance(new, bool):
        return old
    higher, lower = general in HIGHER_IS_STRICTER, _within(general, LOWER_IS_STRICTER)
    if general.endswith(".floor"):  # for an error metric it is a ceiling
        higher = metric_before == metric_after and metric_after in _HIGHER_METRICS
        lower = metric_before == metric_after and metric_after in _LOWER_METRICS
    if not higher and not lower:
        return True
    if old is None or new is None:  # no limit at all is the loosest
        return new is None
    return bool(new < old) if higher else bool(new > old)


def _general(key: str) -> str:
    """The key as the tables have it: a declared segment is left out of its path."""
    return f"checks.slices.{key.rpartition('.')[2]}" if key.startswith("checks.slices.") else key


def _within(key: str, names: frozenset[str]) -> bool:
    """Whether a key or a table that it lies in is among names."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _metric(key: str, table: Mapping[str, Any]) -> str:
    """The metric that stands beside a threshold."""
    return str(table.get(f"{key.rpartition('.')[0]}.metric") or "")


def _applies(settings: Settings, name: str) -> dict[str, Any] | None:
    """The table in force for a name, or for a glob taken as a name."""
    table = settings.models.get(name)
    if table is None:
        table = next((t for pattern, t in settings.models.items() if fnmatch.fnmatchcase(name, pattern)), None)
    return None if table is None else table.model_dump(mode="json", by_alias=True)


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
