"""Real pictures of many shapes as network input."""

from pathlib import Path

from detector.config import InputConfig
from detector.datasets.loading.batch import make_batch
from detector.datasets.pictures.read import read_image
from detector.datasets.pictures.transforms import prepare_for_test
from detector.structures import ImageBatch


def photographs(shared: Path, count: int, min_size: int, first: int = 0) -> list[ImageBatch]:
    """Batches of one COCO picture each, the shortest edge `min_size` pixels."""
    files = sorted((shared / "data/coco_excerpt/val2017").glob("*.jpg"))[first : first + count]
    assert len(files) == count
    config = InputConfig(min_size_test=min_size)
    batches = []
    for i, file in enumerate(files):
        image = read_image(file)
        batches.append(make_batch([prepare_for_test(image, config)], [(image.shape[0], image.shape[1])], [i]))
    return batches
