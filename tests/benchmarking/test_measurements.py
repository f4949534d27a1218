import json
from pathlib import Path

import pytest
from benchmarking.measurements import HEADLINE, JSON_LINES, Report, headline, markdown_table, show

from detector.errors import UserError


def test_lines_at_once_and_tables_at_the_end(tmp_path: Path) -> None:
    report = Report(tmp_path / "new")
    report.add("speed", {"form": "ours", "s": 0.25}, {"wall": [0.2, 0.3]})
    report.note("on a machine")
    report.refuse("training", "other losses")
    lines = [json.loads(line) for line in (tmp_path / "new" / JSON_LINES).read_text().splitlines()]
    assert lines == [
        {"table": "speed", "form": "ours", "s": 0.25, "wall": [0.2, 0.3], "columns": ["form", "s"]},
        {"note": "on a machine"},
        {"refused": "training", "why": "other losses"},
    ]
    text = report.write_markdown().read_text()
    assert "| form | s |\n| --- | ---: |\n| ours | 0.250 |" in text
    assert "- on a machine" in text
    assert report.refused == ["training: other losses"]


def test_an_interrupted_run_has_its_tables(tmp_path: Path) -> None:
    Report(tmp_path).add("speed", {"form": "ours", "s": 0.25})
    assert "| ours | 0.250 |" in (tmp_path / "benchmark.md").read_text()


def test_processes_of_a_run_share_one_report(tmp_path: Path) -> None:
    first = Report(tmp_path)
    first.note("on a machine")
    other = Report(tmp_path, continued=True)
    other.note("on a machine")
    other.add("speed", {"form": "ours", "s": 0.25})
    other.refuse("training", "other losses")
    assert first.refused == []
    first.read_again()
    assert first.refused == ["training: other losses"]
    first.add("speed", {"form": "peer", "s": 0.5})
    text = first.write_markdown().read_text()
    assert "| ours | 0.250 |\n| peer | 0.500 |" in text
    assert text.count("on a machine") == 1
    assert Report(tmp_path).refused == []  # a new run


def ratios(memory: str, by_cpu: str, by_clock: str) -> dict[str, str | int | float | None]:
    times = {"× by CPU time": by_cpu, "× by the clock": by_clock}
    return {"depth": 50, "threads": 1, "memory": memory, "slow": "peer", "fast": "ours", **times}


def test_the_headline_has_both_kinds_of_memory_beside_each_other(tmp_path: Path) -> None:
    report = Report(tmp_path)
    report.add("inference", {"depth": 50, "memory": "kept", "s": 1.0})
    report.add("inference ratios", ratios("kept", "3.00", "3.10"))
    report.add("inference ratios", ratios("returned", "4.00", "4.10"))
    report.add("training ratios", ratios("kept", "2.00", "2.10"))
    report.add("loading ratios", {"slow": "Pillow", "fast": "ours", "× by CPU time": "2.00"})
    text = report.write_markdown().read_text()
    assert text.startswith(f"**{HEADLINE}**")
    assert text.split("\n\n")[1].splitlines() == [
        "| of | depth | threads | slow | fast | × by CPU time, memory kept | × by the clock, memory kept "
        "| × by CPU time, as the system has it | × by the clock, as the system has it |",
        "| --- | ---: | ---: | --- | --- | --- | --- | --- | --- |",
        "| inference | 50 | 1 | peer | ours | 3.00 | 3.10 | 4.00 | 4.10 |",
        "| training | 50 | 1 | peer | ours | 2.00 | 2.10 |  |  |",
    ]
    assert headline({"loading ratios": [{"slow": "Pillow"}]}) == []


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
