"""The report's page: whole, harmless, within its size, with the very numbers of metrics.json, and in a browser."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser
from PIL import Image
from scored_sets import analysed, box, content, detection, object_, perfect

from detector.evaluation.coco_eval import METRICS
from detector.evaluation.report.page import CONTENTS, ReportContext, make_page, write_report
from detector.evaluation.report.worst import pictures_in

HOSTILE = '<script>alert(1)</script>"\u202e\x1b[31m'


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def some_set(names: dict[int, str] | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    annotations = [object_(i, (2, 5, 9)[i % 3], 1 + i % 4) for i in range(80)]
    detections = perfect(annotations[:60], 0.9) + [detection(box(90 + i), 0.3 + i / 50, 5, 2) for i in range(9)]
    return content(annotations, 4, names), detections


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With pictures 1 to 3; the fourth is not there."""
    random = np.random.default_rng(0)
    for i in (1, 2, 3):
        Image.fromarray(random.integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_one_file_with_every_section_and_the_numbers_of_metrics_json(folder: Path) -> None:
    truth, results, analysis = analysed(*some_set())
    history = [{"iteration": i, "loss": 3 / i, "losses": {"a": 1 / i}, "learning_rate": 0.01} for i in (1, 2, 3)]
    history += [{"iteration": 3, "evaluation": {"AP": 0.1, "AP50": None}}, {"iteration": 6, "evaluation": {"AP": 0.2}}]
    context = ReportContext("run 3", "val.json", "train lr=1", "a: 1\nb: 2", history, pictures_in(folder, truth))
    path = write_report(folder / "out", truth, results, analysis, context)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == list(CONTENTS)
    values = [attributes["value"] for tag, attributes in page.tags if tag == "data"]
    numbers = json.loads(json.dumps(analysis.metrics.to_dict()))
    for name in METRICS:
        assert numbers[name] < 0 or repr(numbers[name]) in values, name
    for one in numbers["per_class"]:
        assert repr(one["AP"]) in values
    assert "chosen on this data" in page.text
    assert "train lr=1" in page.text
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3
    assert all((source or "").startswith("data:image/jpeg;base64,") for source in pictures)
    assert "4.png: " in page.text  # the picture that is not there is said, and ends nothing
    assert html.count("<svg") >= 8
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?!data:|#)[a-z]+:""", html)


def test_the_table_has_a_line_for_each_class(tmp_path: Path) -> None:
    truth, results, analysis = analysed(*some_set({2: "cat, big", 5: HOSTILE, 9: "bird"}))
    write_report(tmp_path, truth, results, analysis, ReportContext("m", "d"))
    with open(tmp_path / "report.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines][:2] == ["all classes", "cat, big"]
    assert float(lines[0]["AP"]) == analysis.metrics.AP
    assert [float(line["AP"]) for line in lines[1:]] == [one.AP for one in analysis.classes]
    assert lines[1]["boxes"] == "27"
    assert lines[1]["threshold"] == "0.9"
    assert lines[1]["APl"] == ""  # undefined


def test_names_do_no_harm(folder: Path) -> None:
    names = {2: HOSTILE, 5: "x" * 500, 9: "🐦 鳥"}
    truth, results, analysis = analysed(*some_set(names))
    context = ReportContext(HOSTILE, HOSTILE, HOSTILE, HOSTILE, (), pictures_in(folder, truth))
    html = make_page(truth, results, analysis, context)
    page = Page(html)
    assert "<script" not in html.lower().replace("&lt;script", "")
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "x" * 61 not in html
    assert "🐦 鳥" in html


@pytest.mark.slow
def test_noise_and_hundreds_of_classes_stay_below_ten_megabytes(tmp_path: Path) -> None:
    names = {i: f"{i} " + "\U000e0001" * 490 for i in range(1, 601)}
    images = 30
    random = np.random.default_rng(0)
    for i in range(1, images + 1):
        Image.fromarray(random.integers(0, 256, (480, 480, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    annotations = [object_(i % 80, 1 + i, 1 + i % images) for i in range(590)]
    truth, results, analysis = analysed(content(annotations, images, names), perfect(annotations[::7]))
    html = make_page(truth, results, analysis, ReportContext("m", "d", show_picture=pictures_in(tmp_path, truth)))
    assert html.count("<img") == 24
    assert len(html.encode()) < 10_000_000


def test_nothing_at_all_is_a_page_too() -> None:
    for annotations, detections in (([], []), ([object_(0)], []), ([], [detection(box(1))])):
        truth, results, analysis = analysed(content(annotations), detections)
        assert "COCO metrics" in make_page(truth, results, analysis, ReportContext("m", "d"))


@pytest.mark.slow
def test_a_browser_shows_it_without_a_request_or_an_error(folder: Path) -> None:
    truth, results, analysis = analysed(*some_set({2: HOSTILE, 5: "dog", 9: "bird"}))
    context = ReportContext("run", "val", show_picture=pictures_in(folder, truth))
    page = write_report(folder / "out", truth, results, analysis, context)
    browser = Browser(folder / "profile")
    try:
        browser.open(page.as_uri())
        assert browser.run("document.querySelectorAll('section').length") == 7
        assert browser.run("Array.from(document.images).every((image) => image.naturalWidth > 0)")
        assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
        assert browser.errors == []
        shot = Image.open(io.BytesIO(browser.screenshot())).convert("L")
        assert shot.getextrema()[0] < 60  # it is not blank
    finally:
        browser.close()
