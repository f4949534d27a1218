import json
from pathlib import Path

import pytest
from benchmarking.report import JSON_LINES, Report, markdown_table, show

from detector.errors import UserError


def test_lines_at_once_and_tables_at_the_end(tmp_path: Path) -> None:
    report = Report(tmp_path / "new")
    report.add("speed", {"form": "ours", "s": 0.25}, {"wall": [0.2, 0.3]})
    report.note("on a machine")
    report.refuse("training", "other losses")
    lines = [json.loads(line) for line in (tmp_path / "new" / JSON_LINES).read_text().splitlines()]
    assert lines == [
        {"table": "speed", "form": "ours", "s": 0.25, "wall": [0.2, 0.3]},
        {"note": "on a machine"},
        {"refused": "training", "why": "other losses"},
    ]
    text = report.write_markdown().read_text()
    assert "| form | s |\n| --- | ---: |\n| ours | 0.250 |" in text
    assert "- on a machine" in text
    assert report.refused == ["training: other losses"]


def test_rows_may_lack_columns() -> None:
    table = markdown_table([{"a": 1}, {"a": 2, "b": "x"}])
    assert table.splitlines() == ["| a | b |", "| ---: | --- |", "| 1 |  |", "| 2 | x |"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(12345.6, "12346"), (123.4, "123"), (1.0, "1.00"), (0.01234, "0.0123"), (7, "7"), ("x", "x"), (None, "")],
)
def test_three_digits(value: float | str | None, expected: str) -> None:
    assert show(value) == expected


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output"):
        Report(tmp_path / "file")
