"""The curves of a training run, from the lines of its metrics.jsonl."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detector.evaluation.report.charts import Axes, Line, line_chart
from detector.evaluation.report.markup import section


def training_section(history: Sequence[Mapping[str, Any]]) -> str:
    """Losses, AP on the val split, and the learning rate over iterations; nothing without a history."""
    steps = [entry for entry in history if "loss" in entry]
    evaluations = [entry for entry in history if "evaluation" in entry]
    charts = [
        _chart("training loss", {"together": _points(steps, "loss")} | _named(steps, "losses")),
        _chart("AP on the val split", {name: _points(evaluations, "evaluation", name) for name in ("AP", "AP50")}),
        _chart("validation losses", _named(evaluations, "validation_losses")),
        _chart("gradient norm", {"": _points(steps, "gradient_norm")}),
        _chart("learning rate", {"": _points(steps, "learning_rate")}),
    ]
    if not any(charts):
        return ""
    return section("training", "Training", f'<div class="row">{"".join(charts)}</div>')


def _chart(title: str, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """A chart of curves that have two points or more; empty where none has."""
    lines = [Line(name, x, y) for name, (x, y) in curves.items() if np.isfinite(y).sum() > 1]
    if not lines:
        return ""
    values = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    iterations = np.concatenate([line.x for line in lines])
    axes = Axes(
        "iteration",
        "",
        x_range=(0.0, float(iterations.max())),
        y_range=(0.0, float(max(values.max() * 1.05, 1e-9))),
        size=(330, 230),
    )
    return f'<div class="card"><h3>{title}</h3>{line_chart(lines, axes, title)}</div>'


def _named(entries: Sequence[Mapping[str, Any]], key: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names = dict.fromkeys(name for entry in entries for name in (entry.get(key) or {}))
    return {name: _points(entries, key, name) for name in names}


def _points(entries: Sequence[Mapping[str, Any]], *keys: str) -> tuple[np.ndarray, np.ndarray]:
    """Iterations and the numbers under some keys, one below the other; NaN where there is none."""
    values = []
    for entry in entries:
        value: Any = entry
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        values.append(float(value) if isinstance(value, (int, float)) else np.nan)
    iterations = [entry.get("iteration") for entry in entries]
    x = [float(i) if isinstance(i, (int, float)) else np.nan for i in iterations]
    return np.array(x, np.float64), np.array(values, np.float64)
