"""Ways of showing a picture to a network: at which size, and mirrored or not; and how boxes go there and back."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from detector import boxes as box_ops
from detector.config import InputConfig, ViewsConfig
from detector.datasets.pictures.sizes import resized_size
from detector.datasets.pictures.transforms import flip_horizontal, resize
from detector.structures import Size

LONGEST = 20_000  # pixels of a view's longest edge, whatever the settings say
MAXOUT_SCALES = (1 / 3, 2 / 3, 1.0, 4 / 3, 5 / 3)  # shortest edges of 200 to 1000, of a network tested at 600
DETECTRON2_SIZES = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)
DETECTRON2_MAX_SIZE = 4000


@dataclass(frozen=True)
class View:
    """The picture at one size, mirrored or not; it is mirrored after it was resized.

    scale: times the usual test size. shortest: instead of that, the shortest edge in pixels, with the longest edge at
    most `longest`.
    horizontal: mirrored left to right. vertical: mirrored top to bottom.
    """

    scale: float = 1.0
    shortest: int | None = None
    longest: int = LONGEST
    horizontal: bool = False
    vertical: bool = False

    def size(self, original: Size, config: InputConfig) -> Size:
        """(height, width) of this view of a picture, for a network whose pictures are prepared by `config`."""
        if self.shortest is not None:
            return resized_size(original, self.shortest, self.longest, config.resize)
        usual = resized_size(original, config.min_size_test, config.max_size_test, config.resize)
        if self.scale == 1.0:
            return usual
        return resized_size(original, max(1, round(self.scale * min(usual))), LONGEST, config.resize)

    def pixels(self, image: np.ndarray, config: InputConfig) -> np.ndarray:
        """The view's input image: [H, W, 3] uint8 RGB to [H', W', 3], uint8 or what `config.resize` gives."""
        seen = resize(image, self.size((image.shape[0], image.shape[1]), config), config.resize)
        if self.horizontal:
            seen = flip_horizontal(seen)
        return seen[::-1] if self.vertical else seen

    def to_view(self, boxes: Tensor, original: Size, size: Size) -> Tensor:
        """Move [*, 4] xyxy boxes from the original image to the view, whose size is `size`."""
        return self.mirror(box_ops.rescale(boxes, original, size), size)

    def to_original(self, boxes: Tensor, original: Size, size: Size) -> Tensor:
        """Move [*, 4] xyxy boxes from the view, whose size is `size`, to the original image; they are not clipped."""
        return box_ops.rescale(self.mirror(boxes, size), size, original)

    def mirror(self, boxes: Tensor, size: Size) -> Tensor:
        """[*, 4] xyxy boxes of an image of `size`, mirrored as this view mirrors; twice gives them back."""
        height, width = size
        if self.horizontal:
            boxes = box_ops.flip_horizontal(boxes, width)
        return box_ops.flip_vertical(boxes, height) if self.vertical else boxes


def views_of(settings: ViewsConfig, config: InputConfig) -> list[View]:
    """Every view that the settings ask for: size after size, each as it is and then mirrored."""
    vertical = (False, True) if settings.vertical_flip else (False,)
    horizontal = (False, True) if settings.horizontal_flip else (False,)
    return [
        View(size.scale, size.shortest, size.longest, flip_x, flip_y)
        for size in _sizes_of(settings, config)
        for flip_y in vertical
        for flip_x in horizontal
    ]


def _sizes_of(settings: ViewsConfig, config: InputConfig) -> list[View]:
    if settings.form == "detectron2":
        longest = settings.max_size or DETECTRON2_MAX_SIZE
        return [View(shortest=size, longest=longest) for size in settings.sizes or DETECTRON2_SIZES]
    if settings.sizes:
        return [View(shortest=size, longest=settings.max_size or config.max_size_test) for size in settings.sizes]
    return [View(scale=scale) for scale in settings.scales or (MAXOUT_SCALES if settings.form == "maxout" else (1.0,))]
