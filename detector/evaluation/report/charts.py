"""Charts as inline SVG: lines over two axes, and bars. Colours are the page's, by class names of its style sheet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.evaluation.report.markup import escape

MOST_POINTS = 200  # of a line: more than a chart of this size shows
LEFT, BOTTOM, TOP, RIGHT = 44, 34, 10, 10  # margins around the plot, in units of the picture


@dataclass(frozen=True)
class Line:
    """A line of a chart: x and y, [P] each; NaN interrupts it. name: for the legend, empty for none."""

    name: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Axes:
    """Ranges of x and y, what is written at them, and the size of the whole chart."""

    x_name: str = ""
    y_name: str = ""
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)
    size: tuple[int, int] = (360, 260)  # width, height

    def place(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where points lie in the picture."""
        width, height = self.size[0] - LEFT - RIGHT, self.size[1] - TOP - BOTTOM
        across = (x - self.x_range[0]) / ((self.x_range[1] - self.x_range[0]) or 1)
        up = (y - self.y_range[0]) / ((self.y_range[1] - self.y_range[0]) or 1)
        return LEFT + width * across, TOP + height * (1 - up)


def line_chart(lines: Sequence[Line], axes: Axes, title: str, mark: tuple[float, float] | None = None) -> str:
    """Lines over axes with a legend.

    Args:
        lines: each gets the next of the page's colours.
        axes: what is drawn behind them.
        title: what the chart shows, for those who do not see it.
        mark: a point to emphasise, in units of the axes.
    """
    parts = [_frame(axes)]
    for number, line in enumerate(lines):
        if path := _path(*_thinned(line), axes):
            parts.append(f'<path class="line s{number % 8}" d="{path}"/>')
    if mark is not None:
        x, y = axes.place(np.array(mark[0]), np.array(mark[1]))
        parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    width, height = axes.size
    legend = "".join(
        f'<span><i class="s{number % 8}"></i>{escape(line.name)}</span>'
        for number, line in enumerate(lines)
        if line.name
    )
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
        + (f'<figcaption class="legend">{legend}</figcaption>' if legend else "")
        + "</figure>"
    )


def reliability_chart(bins: Sequence[tuple[float, float, float, int]], axes: Axes, title: str) -> str:
    """Bars of how often detections are right, by their score, beside the line on which they would be calibrated.

    Args:
        bins: (lowest score, highest score, share that is right, detections); empty ones are left out.
        axes: from 0 to 1 both.
        title: for those who do not see it.
    """
    parts = [_frame(axes)]
    for low, high, share, count in bins:
        if count:
            (x1, x2), (y1, y2) = axes.place(np.array([low, high]), np.array([share, 0.0]))
            parts.append(
                f'<rect class="bar" x="{x1 + 1:.1f}" y="{y1:.1f}" width="{max(x2 - x1 - 2, 1):.1f}" '
                f'height="{max(y2 - y1, 0):.1f}"><title>{count:,} detections, {share:.1%} right</title></rect>'
            )
    diagonal = _path(np.array(axes.x_range), np.array(axes.y_range), axes)
    width, height = axes.size
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}<path class="diagonal" d="{diagonal}"/></svg></figure>'
    )


def _frame(axes: Axes) -> str:
    """The grid with numbers, and the names of the axes."""
    width, height = axes.size
    parts = []
    for value in _ticks(*axes.x_range):
        x, y = axes.place(np.array(value), np.array(axes.y_range[0]))
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y + 13:.1f}" text-anchor="middle">{_short(value)}</text>')
    for value in _ticks(*axes.y_range):
        x, y = axes.place(np.array(axes.x_range[0]), np.array(value))
        parts.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{width - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{x - 5:.1f}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    middle = (LEFT + width - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{height - 4}" text-anchor="middle">{escape(axes.x_name)}</text>')
    up = (TOP + height - BOTTOM) / 2
    parts.append(
        f'<text class="axis" transform="translate(11 {up}) rotate(-90)" text-anchor="middle">'
        f"{escape(axes.y_name)}</text>"
    )
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, three to seven of them."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** np.floor(np.log10(span))
    step = float(next(step * part for part in (0.2, 0.25, 0.5, 1.0, 2.0) if span / (step * part) <= 6))
    first = float(np.ceil(low / step - 1e-9)) * step
    return [first + step * i for i in range(int((high - first) / step + 1e-9) + 1)]


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"


def _thinned(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """The points of a line, evenly left out where it has more than the chart can show."""
    if len(line.x) <= MOST_POINTS:
        return line.x, line.y
    kept = np.unique(np.linspace(0, len(line.x) - 1, MOST_POINTS).round().astype(int))
    return line.x[kept], line.y[kept]


def _path(x: np.ndarray, y: np.ndarray, axes: Axes) -> str:
    """The commands of an SVG path through the finite points."""
    across, down = axes.place(x, y)
    words, pen = [], "M"
    for px, py in zip(across.tolist(), down.tolist(), strict=True):
        if np.isfinite(px) and np.isfinite(py):
            words.append(f"{pen}{px:.1f} {py:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(words) if len(words) > 1 else ""
