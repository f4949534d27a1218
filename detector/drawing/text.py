"""One line of text as a coverage mask, in any script that a font at hand can write.

OpenCV 5 carries scalable fonts for Latin, Greek, Cyrillic, Arabic, Hebrew, Chinese, Japanese and Korean, so pictures
look the same on every machine. OpenCV 4 letters ASCII only; there Pillow's own font takes over, also with little beyond
ASCII. `can_write` tells beforehand, so that nothing is ever drawn as question marks.
"""

import math

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detector.opencv import undisturbed

WEIGHT = 500  # a little bolder than regular: thin strokes vanish on coloured tags
NO_SUCH_CHARACTER = "\U0010fffd"  # private use, in no font: drawn as whatever stands for a missing character


def text_mask(text: str, size: int) -> np.ndarray:
    """Render one line of text.

    Args:
        text: the line; runs of white space, also line breaks, become one space.
        size: height of the letters' body in pixels.

    Returns:
        [line height, width] uint8 coverage, 0 to 255. The height depends on `size` alone, so lines align.
    """
    text = " ".join(text.split())
    height, baseline = round(1.36 * size), round(1.03 * size)
    if not text:
        return np.zeros((height, 0), np.uint8)
    if hasattr(cv2, "FontFace"):
        with undisturbed():
            face = cv2.FontFace("sans")
            width = cv2.getTextSize((0, 0), text, (0, 0), face, size, WEIGHT)[2]
            mask = np.zeros((height, width), np.uint8)
            cv2.putText(mask, text, (0, baseline), (255,), face, size, WEIGHT)
        return mask
    font = ImageFont.load_default(size)
    canvas = Image.new("L", (math.ceil(font.getlength(text)), height))
    ImageDraw.Draw(canvas).text((0, baseline), text, fill=255, font=font, anchor="ls")
    return np.array(canvas)


def can_write(text: str) -> bool:
    """Whether the font has every character of `text`, so that none would come out as a placeholder."""
    missing = text_mask(NO_SUCH_CHARACTER, 16)
    return all(
        character.isascii() or character.isspace() or not np.array_equal(text_mask(character, 16), missing)
        for character in text
    )
