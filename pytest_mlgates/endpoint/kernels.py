"""Single-row predictions without the data frame: the same floating-point operations in the same order as scikit-learn's own.

A kernel takes one row as float64, shape (features,), and returns the prediction, or ``None`` when this row is for the slow
path to judge (NaN and infinities, which scikit-learn refuses for some estimators and not for others). `scorer` compares every
kernel with the model's own answers before it is used.

Tree ensembles are walked level by level over all trees at once: 400 trees of depth 12 cost a dozen numpy calls where asking each
tree costs 400. The leaves are then added one after the other (``cumsum``): numpy's own ``sum`` adds in
pairs, which differs in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Kernel = Callable[[Any], float | None]


def compile_kernel(model: Any) -> Kernel | None:
    """Return the kernel of a fitted scikit-learn regressor (or of a pipeline that ends in one), ``None`` where there is none."""
    steps = [step for _, step in model.steps] if type(model).__name__ == "Pipeline" else [model]
    *before, last = [s for s in steps if s != "passthrough"]
    scalers = [_scaler(step) for step in before]
    if any(s is None for s in scalers):
        return None
    final = _final(last)
    if final is None:
        return None
    if not scalers:
        return final
    chain: list[Any] = scalers

    def piped(row: Any) -> float | None:
        for scale in chain:
            row = scale(row)
        return final(row)

    return piped


def _scaler(step: Any) -> Callable[[Any], Any] | None:
    kind = type(step).__name__
    if kind == "StandardScaler":
        mean = np.asarray(step.mean_, dtype=np.float64) if step.with_mean else None
        scale = np.asarray(step.scale_, dtype=np.float64) if step.with_std else None

        def standard(row: Any) -> Any:
            if mean is not None:
                row = row - mean
            return row / scale if scale is not None else row

        return standard
    if kind == "MinMaxScaler" and not step.clip:
        factor, shift = np.asarray(step.scale_), np.asarray(step.min_)
        return lambda row: row * factor + shift
    return None


def _final(model: Any) -> Kernel | None:
    kind, module = type(model).__name__, type(model).__module__
    if not module.startswith("sklearn."):
        return None
    if kind in ("Ridge", "LinearRegression", "Lasso", "ElasticNet") and np.ndim(model.coef_) == 1:
        return _linear(model)
    if kind in ("RandomForestRegressor", "ExtraTreesRegressor") and model.n_outputs_ == 1:
        return _forest([tree.tree_ for tree in model.estimators_])
    if kind == "HistGradientBoostingRegressor" and model.n_trees_per_iteration_ == 1 and model.loss == "squared_error":
        return _boosting(model)
    return None


def _linear(model: Any) -> Kernel:
    coef = np.asarray(model.coef_)
    intercept = float(model.intercept_)

    def linear(row: Any) -> float | None:
        # one row as a (1, n) matrix, as scikit-learn has it: a plain dot product may round differently
        value = float((row[None, :] @ coef)[0]) + intercept
        return value if np.isfinite(value) else None

    return linear


class _Walk:
    """Nodes of all trees in one table; leaves point at themselves, so that every tree takes the same number of steps."""

    def __init__(self, trees: list[dict[str, Any]]) -> None:
        offsets = np.cumsum([0] + [len(t["left"]) for t in trees])[:-1]
        self.roots = offsets.astype(np.intp)
        self.feature = np.concatenate([t["feature"] for t in trees]).astype(np.intp)
        self.threshold = np.concatenate([t["threshold"] for t in trees])
        self.value = np.concatenate([t["value"] for t in trees])
        # children side by side: the next node is children[2 * node + goes_right]
        children = [
            np.stack([t["left"] + offset, t["right"] + offset], axis=1) for t, offset in zip(trees, offsets, strict=True)
        ]
        self.children = np.ascontiguousarray(np.concatenate(children)).astype(np.intp).ravel()
        self.missing_right = np.concatenate([t["missing_right"] for t in trees])
        self.depth = max(t["depth"] for t in trees)

    def leaves(self, row: Any, *, missing: bool) -> Any:
        """Value of the leaf that each tree sends ``row`` to, shape (trees,); ``missing``: the row holds NaN."""
        node = self.roots
        for _ in range(self.depth):
            given = row.take(self.feature.take(node))
            right = given > self.threshold.take(node)
            if missing:
                right |= np.isnan(given) & self.missing_right.take(node)
            node = self.children.take(2 * node + right)
        return self.value.take(node)


def _forest(trees: list[Any]) -> Kernel | None:
    if any(t.n_features == 0 or t.value.shape[1:] != (1, 1) for t in trees):
        return None
    tables = []
    for tree in trees:
        leaf = tree.children_left == -1
        own = np.arange(tree.node_count)
        tables.append(
            {
                "left": np.where(leaf, own, tree.children_left),
                "right": np.where(leaf, own, tree.children_right),
                "feature": np.where(leaf, 0, tree.feature),
                "threshold": np.where(leaf, np.inf, tree.threshold),
                "value": tree.value[:, 0, 0],
                "missing_right": np.zeros(tree.node_count, dtype=bool),
                "depth": tree.max_depth,
            }
        )
    walk = _Walk(tables)
    count = len(trees)

    def forest(row: Any) -> float | None:
        # trees see float32; a value that float32 cannot hold is refused by scikit-learn, as is NaN unless trained with it
        with np.errstate(over="ignore"):
            narrow = row.astype(np.float32)
        if not np.isfinite(narrow).all():
            return None
        total = walk.leaves(narrow.astype(np.float64), missing=False).cumsum()[-1]
        return float(total / count)

    return forest


def _boosting(model: Any) -> Kernel | None:
    nodes = [predictors[0].nodes for predictors in model._predictors]
    if not nodes or (model.is_categorical_ is not None and np.any(model.is_categorical_)):
        return None
    tables = []
    for tree in nodes:
        leaf = tree["is_leaf"].astype(bool)
        own = np.arange(len(tree))
        tables.append(
            {
                "left": np.where(leaf, own, tree["left"]),
                "right": np.where(leaf, own, tree["right"]),
                "feature": np.where(leaf, 0, tree["feature_idx"]),
                "threshold": np.where(leaf, np.inf, tree["num_threshold"]),
                "value": tree["value"].astype(np.float64),
                "missing_right": ~leaf & (tree["missing_go_to_left"] == 0),
                "depth": int(tree["depth"].max()),
            }
        )
    walk = _Walk(tables)
    start = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(-1)[:1]

    def boosting(row: Any) -> float:
        leaves = walk.leaves(row, missing=bool(np.isnan(row).any()))
        return float(np.concatenate((start, leaves)).cumsum()[-1])

    return boosting
