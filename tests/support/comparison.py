"""Comparing ours with a reference: what differs, and the largest difference of everything that does not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Comparison:
    """Differences and mismatches of what was compared; tensors may lie on any device.

    largest: quantity → largest absolute difference met (of matched rows, where rows are matched).
    mismatches: one sentence for everything that is not as it should be.
    """

    largest: dict[str, float] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)

    def close(self, name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
        """Equal shapes, and no element further apart than `tolerance`; what is not finite must be equal."""
        if ours.shape != theirs.shape:
            self.mismatches.append(f"{name}: shape {tuple(ours.shape)} instead of {tuple(theirs.shape)}")
            return
        ours, theirs = on_cpu(ours), on_cpu(theirs)
        difference = torch.where(ours == theirs, torch.zeros_like(ours), (ours - theirs).abs())
        self._note(name, difference.max().item() if difference.numel() else 0.0, tolerance)

    def relative(self, name: str, ours: float, theirs: float, tolerance: float) -> None:
        """Two numbers, compared by their ratio."""
        scale = abs(theirs) if theirs != 0 else 1.0
        self._note(name, abs(ours - theirs) / scale, tolerance)

    def near(self, name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
        """Equal shapes, and a difference whose norm is at most `tolerance` of theirs."""
        if ours.shape != theirs.shape:
            self.mismatches.append(f"{name}: shape {tuple(ours.shape)} instead of {tuple(theirs.shape)}")
            return
        ours, theirs = on_cpu(ours), on_cpu(theirs)
        scale = theirs.norm().item() or 1.0  # of nothing, as the gradient of a level that no sampled anchor lies on
        self._note(name, (ours - theirs).norm().item() / scale, tolerance)

    def equal(self, name: str, ours: object, theirs: object) -> None:
        """Equal to the last bit. Tensors and arrays are to be given as lists."""
        if ours != theirs:
            self.mismatches.append(f"{name}: {_short(ours)} instead of {_short(theirs)}")

    def same_rows(self, name: str, ours: "Rows", theirs: "Rows", box_tolerance: float, value_tolerance: float) -> None:
        """The same boxes with the same labels and nearly the same values, in any order, each once."""
        boxes, values = _match(ours, theirs, box_tolerance, value_tolerance)
        matched = boxes.shape[0]
        if not matched == len(ours.values) == len(theirs.values):
            self.mismatches.append(
                f"{name}: {matched} of {len(theirs.values)} match, {len(ours.values) - matched} of ours have none"
            )
        self._note(f"{name}: boxes", boxes.max().item() if matched else 0.0, box_tolerance)
        self._note(f"{name}: values", values.max().item() if matched else 0.0, value_tolerance)

    def add(self, other: "Comparison", prefix: str = "") -> None:
        """Take over the differences and mismatches of another comparison."""
        for name, difference in other.largest.items():
            self.largest[prefix + name] = max(difference, self.largest.get(prefix + name, 0.0))
        self.mismatches += [prefix + mismatch for mismatch in other.mismatches]

    def _note(self, name: str, difference: float, tolerance: float) -> None:
        known = self.largest.get(name, 0.0)
        self.largest[name] = difference if not difference <= known else known  # a NaN wins
        if not difference <= tolerance:
            self.mismatches.append(f"{name}: differs by {difference:.3g}, more than {tolerance:g}")


# The fixture `expect_equal`: fails on any mismatch; the text says under which heading differences are kept.
ExpectEqual = Callable[[Comparison, str], None]


@dataclass(frozen=True)
class Rows:
    """Boxes [R, 4] with a value each (score, logit) [R], and a label each [R] where they have one."""

    boxes: Tensor
    values: Tensor
    labels: Tensor | None = None


def _match(ours: Rows, theirs: Rows, box_tolerance: float, value_tolerance: float) -> tuple[Tensor, Tensor]:
    """One-to-one, nearest pairs first: differences of boxes and of values of the matched pairs, [M] each."""
    boxes = (on_cpu(ours.boxes)[:, None] - on_cpu(theirs.boxes)[None]).abs().amax(dim=2)
    values = (on_cpu(ours.values)[:, None] - on_cpu(theirs.values)[None]).abs()
    distance = torch.maximum(boxes / box_tolerance, values / value_tolerance)
    if ours.labels is not None and theirs.labels is not None:
        distance[on_cpu(ours.labels)[:, None] != on_cpu(theirs.labels)[None]] = torch.inf
    rows, columns = torch.nonzero(distance <= 1, as_tuple=True)
    order = distance[rows, columns].argsort()
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            pairs.append((row, column))
    index = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return boxes[index[:, 0], index[:, 1]], values[index[:, 0], index[:, 1]]


def on_cpu(tensor: Tensor) -> Tensor:
    """Its values in float64, where they can be compared with anything."""
    return tensor.detach().to("cpu", torch.float64)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def table(rows: Iterable[tuple[str, float]]) -> str:
    """Quantities and their largest differences, one a line."""
    return "\n".join(f"{difference:10.2e}  {name}" for name, difference in rows)
