"""What a training run has left, for those who called it from Python."""

import base64
import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.training.report.logs import METRICS_FILE, read_metrics
from detector.training.report.samples import sample_pictures
from detector.training.run.output import BEST_MODEL, FINAL_MODEL, SAMPLES

_SHOWN_SAMPLES = 3  # in a notebook


@dataclass(frozen=True)
class Run:
    """A finished run.

    best: path of the weights with the highest AP on the val split, or of the final ones where there is none. final: of
    the last weights. metrics: COCO's numbers of the best weights by name (`AP`, `AP50`, …, `per_class`) as fractions in
    [0, 1], None where undefined; empty without a val split. output: the folder with everything else.

    Iterating gives the rows of the run's `metrics.jsonl`, in their order.
    """

    best: str
    final: str
    metrics: dict[str, Any] = field(repr=False)
    output: str

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(read_metrics(Path(self.output) / METRICS_FILE))

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={_text(self.metrics.get(name))}" for name in ("AP", "AP50") if self.metrics)
        return f"Run({numbers + ', ' if numbers else ''}best={self.best!r}, output={self.output!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the numbers, and some pictures of detections beside ground truth."""
        names = [name for name in ("AP", "AP50", "AP75", "APs", "APm", "APl") if name in self.metrics]
        cells = "".join(f"<td>{name} {_text(self.metrics[name])}</td>" for name in names)
        pictures = [
            f'<img style="max-width:100%" src="data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}">'
            for path in sample_pictures(Path(self.output) / SAMPLES)[:_SHOWN_SAMPLES]
        ]
        return f"<table><tr>{cells}</tr></table><p>{html.escape(self.best)}</p>{''.join(pictures)}"


def read_run(output: Path) -> Run:
    """The run that a folder holds, which must be finished."""
    rows = [row for row in read_metrics(output / METRICS_FILE) if isinstance(row.get("evaluation"), dict)]
    scores: list[dict[str, Any]] = [row["evaluation"] for row in rows]
    best_path, final = output / BEST_MODEL, output / FINAL_MODEL
    known = [score for score in scores if score.get("AP") is not None]
    metrics = max(known, key=lambda score: float(score["AP"])) if known else (scores[-1] if scores else {})
    best = best_path if best_path.is_file() else final
    return Run(best=str(best), final=str(final), metrics=metrics, output=str(output))


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "n/a"
