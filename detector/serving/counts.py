"""What a server counts of itself, in the text form that Prometheus reads."""

import threading
from collections import Counter
from collections.abc import Mapping

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # upper ends of a histogram's classes
PICTURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Histogram:
    """Counts of values by class, each class with all smaller ones."""

    def __init__(self, name: str, meaning: str, ends: tuple[float, ...]) -> None:
        self.name, self.meaning, self.ends = name, meaning, ends
        self._counts = [0] * len(ends)
        self._count, self._sum = 0, 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts = [count + (value <= end) for count, end in zip(self._counts, self.ends, strict=True)]
        self._count += 1
        self._sum += value

    def lines(self) -> list[str]:
        """The histogram in the lines that Prometheus reads."""
        classes = [f'{self.name}_bucket{{le="{end:g}"}} {n}' for end, n in zip(self.ends, self._counts, strict=True)]
        head = [f"# HELP {self.name} {self.meaning}", f"# TYPE {self.name} histogram"]
        total = [f'{self.name}_bucket{{le="+Inf"}} {self._count}', f"{self.name}_sum {self._sum:.6f}"]
        return [*head, *classes, *total, f"{self.name}_count {self._count}"]


class Counts:
    """What one server counts; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[int] = Counter()
        self._seconds = Histogram("detector_request_seconds", "Time to answer a request for detections.", SECONDS)
        self._network = Histogram("detector_network_seconds", "Time of a pass of the network.", SECONDS)
        self._batches = Histogram("detector_batch_pictures", "Pictures of a pass of the network.", PICTURES)

    def add_request(self, code: int, seconds: float) -> None:
        """Count an answer by its code."""
        with self._lock:
            self._requests[code] += 1
            self._seconds.add(seconds)

    def add_batch(self, pictures: int, seconds: float) -> None:
        """Count a pass of the network."""
        with self._lock:
            self._batches.add(pictures)
            self._network.add(seconds)

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Everything, and some values of now: name → (meaning, value)."""
        with self._lock:
            lines = ["# HELP detector_requests_total Requests for detections, by the code of their answer."]
            lines += ["# TYPE detector_requests_total counter"]
            lines += [f'detector_requests_total{{code="{code}"}} {n}' for code, n in sorted(self._requests.items())]
            for name, (meaning, value) in gauges.items():
                lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge", f"{name} {value:g}"]
            for histogram in (self._seconds, self._network, self._batches):
                lines += histogram.lines()
        return "\n".join(lines) + "\n"
