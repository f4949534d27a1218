import io

import numpy as np
import pytest
from PIL import Image

from detector.datasets.pictures.read import read_image
from detector.datasets.pictures.suffixes import picture_suffixes, readable_formats

CANNOT_BE_WRITTEN = {"MPO"}


@pytest.mark.parametrize("suffix", picture_suffixes())
def test_every_suffix_is_of_a_format_that_is_read(suffix: str) -> None:
    kind = Image.registered_extensions()[suffix]
    stream = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(stream, "JPEG" if kind in CANNOT_BE_WRITTEN else kind)
    assert read_image(stream.getvalue()).shape == (16, 16, 3)


def test_common_suffixes_are_there() -> None:
    assert {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"} < set(
        picture_suffixes()
    )
    assert not {".eps", ".pdf", ".txt", ".pfm", ".svg"} & set(picture_suffixes())
    assert set(readable_formats()) <= set(Image.OPEN)
