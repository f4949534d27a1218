"""Curves of training error as an SVG picture: one panel for each kind of network, a colour for each depth."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np

from experiments.curves import WINDOW, Curve

WIDTH, HEIGHT = 470, 330  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 58, 84, 40, 46  # its margins; names of curves stand at the right
PAPER, INK, FAINT, GRID = "#ffffff", "#1f2430", "#69707d", "#e4e7ec"
COLOURS = ("#d9822b", "#2f6fb3", "#3d8f5f", "#a23b72")  # by depth, the shallowest first
NAME_GAP = 15  # between names at the right, lest they cover each other


@dataclass(frozen=True)
class Panel:
    """Where data lies in one panel. x: of its left edge. steps: at the right end of the axis. top: error at its top."""

    x: int
    steps: int
    top: float

    def at(self, step: float, error: float) -> tuple[float, float]:
        """A point of the data in the picture."""
        across = (WIDTH - LEFT - RIGHT) * step / self.steps
        down = (HEIGHT - TOP - BOTTOM) * (1 - min(error, self.top) / self.top)
        return self.x + LEFT + across, TOP + down


def draw(curves: Sequence[Curve], steps: int, caption: str) -> str:
    """The ResNet paper's figure: training error against the step, plain networks at the left, residual ones beside.

    A line for each seed, thin, and their mean, thick. Both panels have the same axes.

    Args:
        curves: of networks of `steps` steps each.
        steps: at the right end of the axes.
        caption: a line below.
    """
    kinds = [kind for kind in ("plain", "residual") if any(c.spec.kind == kind for c in curves)]
    depths = sorted({c.spec.depth for c in curves})
    top = 0.1 * np.ceil(10 * max(max(c.training[1:] or c.training) for c in curves))
    parts = []
    for number, kind in enumerate(kinds):
        panel = Panel(number * WIDTH, steps, float(top))
        parts.append(_axes(panel, f"{kind} networks"))
        of_kind = {d: [c.training for c in curves if c.spec.kind == kind and c.spec.depth == d] for d in depths}
        parts += [_lines(panel, of_kind[d], COLOURS[i % len(COLOURS)]) for i, d in enumerate(depths) if of_kind[d]]
        parts.append(_names(panel, {d: lines for d, lines in of_kind.items() if lines}, depths))
    width, height = WIDTH * len(kinds), HEIGHT + 22
    parts.append(_text(width / 2, height - 10, caption, 11, FAINT, "middle"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="Helvetica, Arial, sans-serif">\n<rect width="{width}" height="{height}" fill="{PAPER}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _axes(panel: Panel, title: str) -> str:
    parts = [_text(panel.at(panel.steps / 2, 0)[0], 22, title, 15, INK, "middle")]
    for error in np.arange(0, panel.top + 1e-9, 0.1 if panel.top <= 0.5 else 0.2):
        (x0, y), (x1, _) = panel.at(0, error), panel.at(panel.steps, error)
        parts.append(f'<path d="M{x0:.1f} {y:.1f} H{x1:.1f}" stroke="{GRID}"/>')
        parts.append(_text(x0 - 7, y + 4, f"{100 * error:.0f} %", 11, FAINT, "end"))
    for part in (0, 0.25, 0.5, 0.75, 1):
        x, y = panel.at(part * panel.steps, 0)
        parts.append(_text(x, y + 17, f"{part * panel.steps:,.0f}", 11, FAINT, "middle"))
    x, y = panel.at(panel.steps / 2, 0)
    parts.append(_text(x, y + 34, "step", 12, FAINT, "middle"))
    x, y = panel.at(0, panel.top / 2)
    turned = f'transform="rotate(-90 {x - 44:.1f} {y:.1f})"'
    parts.append(_text(x - 44, y, "training error", 12, FAINT, "middle", turned))
    return "\n".join(parts)


def _lines(panel: Panel, seeds: Sequence[Sequence[float]], colour: str) -> str:
    thin = [_path(panel, line, colour, 'stroke-width="1" stroke-opacity="0.35"') for line in seeds]
    return "\n".join([*thin, _path(panel, _mean(seeds), colour, 'stroke-width="2.5"')])


def _path(panel: Panel, line: Sequence[float], colour: str, style: str) -> str:
    # A point stands in the middle of the steps that it is the mean of.
    points = [panel.at(min((i + 0.5) * WINDOW, panel.steps), error) for i, error in enumerate(line)]
    path = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-linejoin="round" {style}/>'


def _names(panel: Panel, lines: dict[int, list[list[float]]], depths: Sequence[int]) -> str:
    """At the right end of each mean curve how many layers it has, moved apart where two would overlap."""
    ends = sorted((panel.at(panel.steps, _mean(seeds)[-1])[1], depth) for depth, seeds in lines.items())
    parts, lowest = [], float("inf")
    for y, depth in reversed(ends):
        lowest = min(y + 4, lowest - NAME_GAP)
        colour = COLOURS[depths.index(depth) % len(COLOURS)]
        parts.append(_text(panel.at(panel.steps, 0)[0] + 8, lowest, f"{depth} layers", 13, colour, "start"))
    return "\n".join(parts)


def _mean(seeds: Sequence[Sequence[float]]) -> list[float]:
    return [float(mean) for mean in np.mean(np.array(seeds), axis=0)]


def _text(x: float, y: float, text: str, size: int, colour: str, anchor: str, more: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" {more}>'
        f"{escape(text)}</text>"
    )
