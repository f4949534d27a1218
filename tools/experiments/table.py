"""Final errors as a table over seeds, and what they say about depth."""

from collections.abc import Callable, Sequence

from experiments.curves import Curve

MARGIN = 0.02  # by which a deeper residual network may be worse and still pass


def error_table(curves: Sequence[Curve], name: Callable[[Curve], str]) -> str:
    """A Markdown table: a row for each kind of network, training and validation error of each seed in percent.

    Args:
        curves: of the same seeds for each network; rows are in their order.
        name: of the row that a curve belongs to.
    """
    seeds = sorted({c.spec.seed for c in curves})
    head = ["network", *(f"training, seed {s}" for s in seeds), "mean", *(f"val, seed {s}" for s in seeds), "mean"]
    rows = [head, ["---", *("---:" for _ in head[1:])]]
    for row in dict.fromkeys(map(name, curves)):
        of_row = {c.spec.seed: c for c in curves if name(c) == row}
        cells = [row]
        for errors in ({s: c.final for s, c in of_row.items()}, {s: c.val for s, c in of_row.items()}):
            cells += [percent(errors[s]) if s in errors else "" for s in seeds]
            cells.append(percent(sum(errors.values()) / len(errors)))
        rows.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def percent(error: float) -> str:
    """A share as the table has it."""
    return f"{100 * error:.1f}"


def verdicts(curves: Sequence[Curve]) -> list[str]:
    """For each seed whether the deepest network trains worse than the shallowest, without shortcuts and with them."""
    lines = []
    for seed in sorted({c.spec.seed for c in curves}):
        final = {(c.spec.kind, c.spec.depth): c.final for c in curves if c.spec.seed == seed}
        for kind in ("plain", "residual"):
            depths = sorted(depth for k, depth in final if k == kind)
            if len(depths) > 1:
                lines.append(_verdict(seed, kind, depths[0], depths[-1], final))
    return lines


def _verdict(seed: int, kind: str, shallow: int, deep: int, final: dict[tuple[str, int], float]) -> str:
    less, more = final[kind, shallow], final[kind, deep]
    if kind == "plain":
        outcome = "worse when deeper" if more > less else "not worse when deeper"
    else:
        outcome = "within 2 points when deeper" if more <= less + MARGIN else "worse when deeper"
    return (
        f"seed {seed}: {kind} networks {outcome}: {shallow} layers {percent(less)} %, {deep} layers {percent(more)} %"
    )
