"""Which classes are taken for which."""

import numpy as np

from detector.evaluation.report.analyse import Analysis
from detector.evaluation.report.markup import escape, note, section, table

MOST_CLASSES = 24  # in the matrix: of more, those that are confused most
MOST_PAIRS = 20


def confusion_section(analysis: Analysis) -> str:
    """The confusion matrix, and the pairs of classes that are confused most."""
    names = [one.name for one in analysis.classes]
    matrix = analysis.confusion
    chosen = _most_confused(matrix)
    left_out = f" The {MOST_CLASSES} classes that are confused most are shown." if len(chosen) < len(names) else ""
    pairs = confused_pairs(matrix)[:MOST_PAIRS]
    rows = [(escape(names[truth]), escape(names[taken]), f"{count:,}") for truth, taken, count in pairs]
    listed = table(("ground truth", "taken for", "times"), rows, numeric_from=2) if rows else "<p>No class is.</p>"
    return section(
        "confusion",
        "Confusion of classes",
        note(
            f"Detections with score ≥ {analysis.threshold:.3f}, each matched with the box that it overlaps by 0.50 or "
            f"more, whatever its class. Rows: what is there. Columns: what was detected.{left_out}"
        ),
        _matrix_table(matrix, names, chosen),
        "<h3>Taken for another most often</h3>",
        listed,
    )


def confused_pairs(matrix: np.ndarray) -> list[tuple[int, int, int]]:
    """(class of the ground truth, class detected, times) of different classes, the most frequent first."""
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    rows, columns = np.nonzero(between)
    counts = between[rows, columns]
    order = np.argsort(-counts, kind="stable")
    return list(zip(rows[order].tolist(), columns[order].tolist(), counts[order].tolist(), strict=True))


def _most_confused(matrix: np.ndarray) -> list[int]:
    between = matrix[:-1, :-1].copy()
    if len(between) <= MOST_CLASSES:
        return list(range(len(between)))
    np.fill_diagonal(between, 0)
    confused = between.sum(axis=0) + between.sum(axis=1)
    frequent = matrix[:-1].sum(axis=1)
    order = np.lexsort((-frequent, -confused))
    return sorted(order[:MOST_CLASSES].tolist())


def _matrix_table(matrix: np.ndarray, names: list[str], chosen: list[int]) -> str:
    last = len(names)
    shown = [*chosen, last]
    head = "".join(f'<th class="turned"><span>{escape(names[k], 24)}</span></th>' for k in chosen)
    lines = [f'<tr><th></th>{head}<th class="turned"><span>missed</span></th></tr>']
    for row in shown:
        name = "nothing there" if row == last else escape(names[row], 24)
        total = max(int(matrix[row].sum()), 1)
        cells = []
        for column in shown:
            count = int(matrix[row, column])
            kind = "right" if row == column else "wrong"
            share = count / total
            style = f' style="--a:{share:.3f}"' if count else ""
            cells.append(f'<td class="n {kind}"{style}>{f"{count:,}" if count else ""}</td>')
        lines.append(f"<tr><th>{name}</th>{''.join(cells)}</tr>")
    return f'<div class="wide"><table class="matrix">{"".join(lines)}</table></div>'
