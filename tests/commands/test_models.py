"""The list of published weights, on the screen and as the page of the documentation."""

from pathlib import Path

import pytest

from detector.commands.main import call
from detector.commands.models import markdown_rows
from detector.weights.published.cache import cached_path
from detector.weights.published.catalogue import PUBLISHED


def test_every_name_is_listed_with_what_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path))
    cached_path("R50-FPN-3x", PUBLISHED["R50-FPN-3x"]).touch()
    assert call("models", [], "faster-rcnn models", "-m detector models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(PUBLISHED) + 1]] == list(PUBLISHED)
    assert [line.split()[0] for line in lines if line.endswith("yes")] == ["R50-FPN-3x"]
    assert f"cache folder {tmp_path}" in lines


def test_the_page_of_the_documentation_is_up_to_date(project_root: Path) -> None:
    page = (project_root / "docs" / "models.md").read_text().splitlines()
    rows = list(markdown_rows())
    assert page[-len(rows) :] == rows
    assert sum(published.is_detector for published in PUBLISHED.values()) == len(rows) - 2
