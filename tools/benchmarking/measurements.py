"""What was measured: at once as a line on the screen, a line of JSON and a row of the Markdown tables."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detector.disk import write_atomically
from detector.errors import UserError

JSON_LINES, MARKDOWN = "benchmark.jsonl", "benchmark.md"

Value = str | int | float | None
Row = dict[str, Value]

# Of a table of ratios: what a row compares is all but these, and how the two kinds of memory are called beside it.
RATIO_COLUMNS = ("× by CPU time", "× by the clock")
MEMORIES = {"kept": "memory kept", "returned": "as the system has it"}
HEADLINE = "Headline: how many times faster"


class Report:
    """The records of a run, in its folder as they come: an interrupted run keeps what it has measured.

    Args:
        folder: to write to; made if it is not there. What an earlier run wrote there is replaced.
        continued: add to what is there, for a process that is one of a run.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path, continued: bool = False) -> None:
        self.folder = folder
        self._records: list[dict[str, Any]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if continued:
                self.read_again()
            else:
                (folder / JSON_LINES).write_text("")
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --output.") from None

    @property
    def refused(self) -> list[str]:
        """What has no ratio because results differ, and why."""
        return [f"{record['refused']}: {record['why']}" for record in self._records if "refused" in record]

    def read_again(self) -> None:
        """Take up what other processes of this run have added to the folder."""
        text = (self.folder / JSON_LINES).read_text()
        self._records = [json.loads(line) for line in text.split("\n") if line]

    def add(self, table: str, row: Mapping[str, Value], raw: Mapping[str, Any] | None = None) -> None:
        """A row of a table; `raw` is what is only of interest to other programs."""
        self._write({"table": table, **row, **(raw or {})}, {"columns": list(row)})
        print(f"{table}: " + ", ".join(f"{k} {show(v)}" for k, v in row.items() if v is not None), flush=True)

    def note(self, text: str) -> None:
        """A sentence that belongs to the numbers; said again it stands once."""
        if any(record.get("note") == text for record in self._records):
            return
        self._write({"note": text})
        print(f"note: {text}", flush=True)

    def refuse(self, what: str, why: str) -> None:
        """Results differ, so there is no ratio."""
        self._write({"refused": what, "why": why})
        print(f"REFUSED: {what}: {why}; no ratio is given", flush=True)

    def write_file(self, name: str, text: str) -> None:
        """Another file of the run."""
        (self.folder / name).write_text(text)

    def write_markdown(self) -> Path:
        """All tables, to be pasted; the ratios with memory kept come first, the others beside them."""
        tables: dict[str, list[Row]] = {}
        for record in self._records:
            if "table" in record:
                tables.setdefault(record["table"], []).append({key: record[key] for key in record["columns"]})
        tables = {HEADLINE: headline(tables), **tables}
        parts = [f"**{name}**\n\n{markdown_table(rows)}" for name, rows in tables.items() if rows]
        lists = [f"- {record['note']}" for record in self._records if "note" in record]
        lists += [f"- refused: {refusal}" for refusal in self.refused]
        path = self.folder / MARKDOWN
        write_atomically(path, ("\n\n".join([*parts, "\n".join(lists)]).strip() + "\n").encode())
        return path

    def _write(self, record: Mapping[str, Any], layout: Mapping[str, Any] | None = None) -> None:
        whole = {**record, **(layout or {})}
        self._records.append(whole)
        with (self.folder / JSON_LINES).open("a") as file:
            file.write(json.dumps(whole, ensure_ascii=False) + "\n")
        self.write_markdown()


def headline(tables: Mapping[str, Iterable[Row]]) -> list[Row]:
    """A row for each ratio of our networks to the peer that was measured, the kinds of memory beside each other."""
    rows: dict[tuple[Value, ...], Row] = {}
    for name in tables:
        for row in tables[name] if name.endswith(" ratios") else ():
            if "memory" not in row:
                continue
            what: Row = {"of": name.removesuffix(" ratios")}
            what |= {key: value for key, value in row.items() if key not in (*RATIO_COLUMNS, "memory")}
            joined = rows.setdefault(tuple(what.values()), what)
            joined |= {f"{column}, {MEMORIES[str(row['memory'])]}": row[column] for column in RATIO_COLUMNS}
    return list(rows.values())


def markdown_table(rows: list[Row]) -> str:
    """Rows with a column for every key that any of them has."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    numeric = [any(isinstance(row.get(c), (int, float)) for row in rows) for c in columns]
    lines = [columns, ["---:" if right else "---" for right in numeric]]
    lines += [[show(row.get(column)) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show(value: Value) -> str:
    """A value for people: of a fraction three digits that mean something."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    return str(value)
