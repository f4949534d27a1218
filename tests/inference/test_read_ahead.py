import threading
from pathlib import Path

import numpy as np

from detector.inference.read_ahead import read_ahead


def test_closed_early_it_reads_no_more() -> None:
    may_go_on, begun = threading.Event(), []

    def read(path: Path) -> np.ndarray:
        begun.append(path.name)
        if path.name != "0":
            may_go_on.wait(60)
        return np.zeros((1, 1, 3), np.uint8)

    pictures = read_ahead([Path(str(number)) for number in range(20)], 8, read)
    next(pictures)
    threading.Timer(0.2, may_go_on.set).start()
    pictures.close()
    assert len(begun) <= 4  # the first, and what the two threads had begun
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
