"""A process from nothing to detections; run by its path, so that nothing of the package is imported before its turn."""

import json
import sys
import time


def main(weights: str, picture: str, device: str) -> dict[str, float]:
    """Seconds of every stage in this process."""
    seconds: dict[str, float] = {}
    last = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[name] = now - last
        last = now

    import torch  # noqa: F401 (its seconds are not the detector's)
    import torchvision  # noqa: F401

    lap("import torch and torchvision, s")
    import detector

    lap("import detector beyond these, s")
    model = detector.load(weights, device=device)
    lap("load, s")
    for name in ("first picture, s", "second picture, s"):
        model.predict(picture)
        lap(name)
    return seconds


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
