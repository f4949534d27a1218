"""How much memory a forked process gains by reading 200,000 annotations: prints bytes held, and gained in two forms.

Run as a script, so that nothing but the reading is in the process.
"""

import gc
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from annotated_sets import columns_of

from detector.datasets.dataset import DetectionDataset, make_dataset

IMAGES, BOXES = 5_000, 200_000


def make_data() -> DetectionDataset:
    columns = columns_of(
        image_ids=range(IMAGES),
        names=[f"folder/{number:012d}.jpg" for number in range(IMAGES)],
        sizes=[(480, 640)] * IMAGES,
        owners=np.arange(BOXES) % IMAGES,
        corners=np.tile(np.array([[1.0, 2.0, 30.0, 40.0]]), (BOXES, 1)),
        classes=np.zeros(BOXES, np.int64),
        iscrowd=np.zeros(BOXES, bool),
        areas=np.ones(BOXES),
        categories=[(1, "a")],
    )
    return make_dataset(columns, ".")


def growth_in_child(data: Any) -> int:
    """Memory of its own that a forked process gains by reading everything, in bytes.

    A page that a child copies is a fault of the child's and private afterwards, so the smaller of both counts. Faults
    are also those of memory that is taken and given back; private is also what the parent gives back meanwhile.
    """
    reader, writer = os.pipe()
    gc.collect()
    gc.freeze()  # else collections in the child would write to everything the parent has ever imported
    child = os.fork()
    if child == 0:
        for _ in range(len(data)):
            data[0]  # so that the pages which any reading writes to, wherever the heap has room, are copied already
        private, faults = private_bytes(), page_faults()
        for index in range(len(data)):
            data[index]
        gained = min(private_bytes() - private, (page_faults() - faults) * resource.getpagesize())
        os.write(writer, str(gained).encode())
        os._exit(0)
    gc.unfreeze()
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as stream:
        return int(stream.read())


def private_bytes() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * sum(int(kilobytes) for kilobytes in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.M))


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def main() -> None:
    data = make_data()
    held = sum(value.nbytes for value in vars(data).values() if isinstance(value, np.ndarray))
    print(held, growth_in_child(data), growth_in_child([{"bbox": row} for row in data.boxes.tolist()]))


if __name__ == "__main__":
    main()
