"""Text for a page of HTML: names from files made harmless, numbers with all their digits behind them."""

from collections.abc import Iterable
from html import escape as escape_markup

from detector.printing import printable

LONGEST = 60  # characters of a class's or a picture's name


def escape(text: object, limit: int | None = LONGEST) -> str:
    """A name as it may stand in the page: no markup, no control characters, of bounded length."""
    return escape_markup(printable(text, limit=limit), quote=True)


def metric(value: float | None) -> str:
    """A fraction for people, with every digit of it in the element's value; n/a for what is undefined (−1 or None)."""
    if value is None or value < 0:
        return '<span class="none">n/a</span>'
    return f'<data value="{value!r}">{value:.3f}</data>'


def table(head: Iterable[str], rows: Iterable[Iterable[str]], numeric_from: int = 1) -> str:
    """A table; its cells are HTML already. Columns from `numeric_from` on are numbers, at the right."""
    titles = "".join(f"<th{_right(i, numeric_from)}>{cell}</th>" for i, cell in enumerate(head))
    body = "".join(
        f"<tr>{''.join(f'<td{_right(i, numeric_from)}>{cell}</td>' for i, cell in enumerate(row))}</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def section(anchor: str, title: str, *content: str) -> str:
    """A part of the page that its table of contents leads to."""
    return f'<section id="{anchor}"><h2>{title}</h2>{"".join(content)}</section>'


def note(text: str) -> str:
    """A paragraph that explains; HTML already."""
    return f'<p class="note">{text}</p>'


def _right(column: int, numeric_from: int) -> str:
    return ' class="n"' if column >= numeric_from else ""
