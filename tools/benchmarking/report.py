"""What was measured: at once as a line on the screen and in a file of JSON lines, at the end as Markdown tables."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.errors import UserError

JSON_LINES, MARKDOWN = "benchmark.jsonl", "benchmark.md"

Value = str | int | float | None


class Report:
    """Collects the records of a run.

    Args:
        folder: to write to; made if it is not there. What an earlier run wrote there is replaced.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refused: list[str] = []
        self._tables: dict[str, list[dict[str, Value]]] = {}
        self._notes: list[str] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / JSON_LINES).write_text("")
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --output.") from None

    def add(self, table: str, row: Mapping[str, Value], raw: Mapping[str, Any] | None = None) -> None:
        """A row of a table; `raw` is what is only of interest to other programs."""
        self._tables.setdefault(table, []).append(dict(row))
        self._write({"table": table, **row, **(raw or {})})
        print(f"{table}: " + ", ".join(f"{k} {show(v)}" for k, v in row.items() if v is not None), flush=True)

    def note(self, text: str) -> None:
        """A sentence that belongs to the numbers."""
        self._notes.append(text)
        self._write({"note": text})
        print(f"note: {text}", flush=True)

    def refuse(self, what: str, why: str) -> None:
        """Results differ, so there is no ratio."""
        self.refused.append(f"{what}: {why}")
        self._write({"refused": what, "why": why})
        print(f"REFUSED: {what}: {why}; no ratio is given", flush=True)

    def write_file(self, name: str, text: str) -> None:
        """Another file of the run."""
        (self.folder / name).write_text(text)

    def write_markdown(self) -> Path:
        """All tables, to be pasted."""
        parts = [f"**{name}**\n\n{markdown_table(rows)}" for name, rows in self._tables.items()]
        lists = [f"- {note}" for note in self._notes] + [f"- refused: {refusal}" for refusal in self.refused]
        path = self.folder / MARKDOWN
        path.write_text("\n\n".join([*parts, "\n".join(lists)]).rstrip() + "\n")
        return path

    def _write(self, record: Mapping[str, Any]) -> None:
        with (self.folder / JSON_LINES).open("a") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def markdown_table(rows: list[dict[str, Value]]) -> str:
    """Rows with a column for every key that any of them has."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    numeric = [any(isinstance(row.get(c), (int, float)) for row in rows) for c in columns]
    lines = [columns, ["---:" if right else "---" for right in numeric]]
    lines += [[show(row.get(column)) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show(value: Value) -> str:
    """A number with three digits that mean something."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    return str(value)
