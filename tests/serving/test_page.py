"""The server's page in a browser: a picture in, boxes drawn, the threshold moved, an unreadable file said."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from PIL import Image
from servers import TinyServer, noise

pytestmark = pytest.mark.slow


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


def test_the_page(browser: Browser, tmp_path: Path) -> None:
    Image.fromarray(noise(240, 320)).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with TinyServer(tmp_path) as server:
        browser.open(server.address + "/")
        browser.wait(lambda: "3 classes" in browser.run("document.getElementById('about').textContent"))
        browser.choose_file("#file", tmp_path / "a.png")
        browser.wait(lambda: not browser.run("document.getElementById('result').hidden"))
        many = count(browser, 0.2)
        assert many > count(browser, 0.6) > 0
        assert count(browser, 1) == 0
        plain = pixels(browser)
        assert count(browser, 0.2) == many
        drawn = pixels(browser)
        assert plain.shape == drawn.shape == (240, 320, 3)
        assert (plain != drawn).any(axis=2).mean() > 0.02
        browser.run("navigator.clipboard.writeText = async (text) => { window.copied = text }")
        browser.run("document.getElementById('copy').click()")
        browser.wait(lambda: browser.run("window.copied"))
        assert browser.run("JSON.parse(window.copied).detections.length") == many
        assert browser.run("document.querySelectorAll('#rows b').length") == 0  # the name <b>…</b> stays text
        if "DETECTOR_SCREENSHOT" in os.environ:
            Path(os.environ["DETECTOR_SCREENSHOT"]).write_bytes(browser.screenshot())
        browser.choose_file("#file", tmp_path / "broken.png")
        browser.wait(lambda: "not a picture" in browser.run("document.getElementById('state').textContent"))
        assert browser.run("document.getElementById('result').hidden")
        outside = [url for url in browser.requests if not url.startswith((server.address, "blob:", "data:"))]
        assert outside == []
        assert [text for text in browser.errors if "422" not in text] == []


def count(browser: Browser, threshold: float) -> int:
    """Rows of the list at a threshold."""
    browser.run(
        f"(() => {{ const t = document.getElementById('threshold'); t.value = {threshold};"
        " t.dispatchEvent(new Event('input')) })()"
    )
    rows: int = browser.run("document.querySelectorAll('#rows tr').length")
    return rows


def pixels(browser: Browser) -> np.ndarray:
    """[H, W, 3] of the canvas."""
    size = browser.run("[document.getElementById('canvas').height, document.getElementById('canvas').width]")
    script = "Array.from(document.getElementById('canvas').getContext('2d').getImageData(0, 0, {1}, {0}).data)"
    values = np.array(browser.run(script.format(*size)), np.uint8)
    return values.reshape(*size, 4)[..., :3]
