"""Inference beside the peer: the same detections, then time, memory, and the share of the machine's peak."""

from collections.abc import Callable, Sequence
from statistics import median

import torch

from detector.benchmarking import memory
from detector.benchmarking.agreement import NEAR_IOU, SAME_IOU, Agreement, compare, refusal_exact, refusal_near
from detector.benchmarking.floor import inference_work, measure_peak
from detector.benchmarking.forms import (
    EAGER,
    FAST,
    FAST_BFLOAT16,
    FORMS,
    PEER_BFLOAT16,
    STRONGEST,
    CannotCompileError,
    Form,
    Run,
    prepare,
    warm_up,
)
from detector.benchmarking.peer import Pair, build_pair
from detector.benchmarking.pictures import load_picture, smaller, variants
from detector.benchmarking.precision import true_float32
from detector.benchmarking.report import Report, Value
from detector.benchmarking.settings import Settings
from detector.benchmarking.timing import Samples, cpus, ratio, take_turns, walls
from detector.structures import Detections

TABLE, RATIOS, MEMORY, AGREEMENT = "inference", "inference ratios", "inference memory", "inference agreement"

# Whose time is divided by whose.
COMPARISONS = ((EAGER, FAST), (EAGER, FAST_BFLOAT16), (PEER_BFLOAT16, FAST_BFLOAT16), (STRONGEST, FAST_BFLOAT16))


def run(settings: Settings, report: Report) -> None:
    """Every depth, number of proposals and batch."""
    for depth in settings.depths:
        for proposals in settings.proposals:
            pixels = variants(load_picture(settings.picture, settings.size), max(settings.batches))
            pair = build_pair(smaller(pixels[0]), settings.size, depth, settings.num_classes, proposals)
            for batch in settings.batches:
                _one_problem(settings, report, pair, pixels[:batch], _label(depth, proposals, batch))
            if memory.can_measure(settings.device):
                _memory(settings, report, depth, proposals)
            else:
                report.note("peak memory of the CPU is measured on Linux alone")


def _label(depth: int, proposals: int, batch: int) -> dict[str, Value]:
    return {"depth": depth, "proposals": proposals, "batch": batch}


def _one_problem(settings: Settings, report: Report, pair: Pair, pixels: torch.Tensor, label: dict[str, Value]) -> None:
    def make(form: Form) -> Run:
        return prepare(form, pair, pixels, settings.device)

    if not _agree(report, make, label):
        return
    forms = [*(FORMS[name] for name in settings.forms), FAST, FAST_BFLOAT16]
    runs = {form.name: make(form) for form in forms}
    for threads in settings.threads:
        torch.set_num_threads(threads)
        ready = {}
        for form in forms:
            try:
                warm_up(form, runs[form.name])
                ready[form.name] = runs[form.name]
            except CannotCompileError as error:
                report.note(f"left out: {form.name}, which cannot be compiled here: {error}")
        samples = take_turns(ready, settings.rounds, settings.device, settings.repeats)
        _report_times(settings, report, pair, samples, label, threads)


def _agree(report: Report, make: Callable[[Form], Run], label: dict[str, Value]) -> bool:
    """Whether ours finds what the peer finds, and in bfloat16 is as near to it as the peer's own bfloat16."""
    found: dict[str, list[Detections]] = {}
    for form in (EAGER, FAST, PEER_BFLOAT16, FAST_BFLOAT16):
        with true_float32():
            found[form.name] = make(form)()
    exact = compare(found[FAST.name], found[EAGER.name], SAME_IOU)
    ours = compare(found[FAST_BFLOAT16.name], found[FAST.name], NEAR_IOU)
    peers = compare(found[PEER_BFLOAT16.name], found[EAGER.name], NEAR_IOU)
    rows = (("ours : peer", exact), ("ours, bf16 : ours", ours), ("peer, bf16 : peer", peers))
    for name, agreement in rows:
        report.add(AGREEMENT, label | {"compared": name} | describe(agreement))
    refusals = [why for why in (refusal_exact(exact), refusal_near(ours, peers)) if why is not None]
    for why in refusals:
        report.refuse(f"inference, {', '.join(f'{k} {v}' for k, v in label.items())}", why)
    return not refusals


def describe(agreement: Agreement) -> dict[str, Value]:
    """For a table."""
    return {
        "detections": f"{agreement.found[0]} : {agreement.found[1]}",
        "matched": agreement.matched,
        "mean IoU": agreement.overlap.value,
        "mean score shift": agreement.shift.value,
        "largest box difference, px": agreement.box,
        "largest score difference": agreement.score,
    }


def _report_times(
    settings: Settings, report: Report, pair: Pair, samples: Samples, label: dict[str, Value], threads: int
) -> None:
    batch, proposals = int(label["batch"] or 0), int(label["proposals"] or 0)
    label = label | ({"threads": threads} if settings.device.type == "cpu" else {})
    work = inference_work(pair.config, settings.size, proposals)
    known = {form.name: form for form in (*FORMS.values(), FAST, FAST_BFLOAT16)}
    peaks = {dtype: measure_peak(dtype, settings.device) for dtype in (torch.float32, torch.bfloat16)}
    for name, taken in samples.items():
        seconds, peak = median(walls(taken)) / batch, peaks[known[name].dtype]
        row: dict[str, Value] = label | {
            "form": name,
            "s / image": seconds,
            "CPU s / image": median(cpus(taken)) / batch,
            "images / s": 1 / seconds,
            "measured peak, TFLOP/s": peak / 1e12,
            "% of peak (as written)": 100 * work.written / seconds / peak,
            "time : floor (hoisted)": seconds / (work.hoisted / peak),
        }
        report.add(TABLE, row, {"wall": walls(taken), "cpu": cpus(taken), "rounds": settings.rounds})
    for slow, fast in COMPARISONS:
        if slow.name in samples:
            _report_ratio(report, samples, label, slow.name, fast.name)


def _report_ratio(report: Report, samples: Samples, label: dict[str, Value], slow: str, fast: str) -> None:
    by_wall = ratio(walls(samples[slow]), walls(samples[fast]))
    by_cpu = ratio(cpus(samples[slow]), cpus(samples[fast]))
    row = label | {"slow": slow, "fast": fast, "× by the clock": str(by_wall), "× by CPU time": str(by_cpu)}
    report.add(RATIOS, row, {"ratio_wall": by_wall.median, "ratio_cpu": by_cpu.median})


def _memory(settings: Settings, report: Report, depth: int, proposals: int) -> None:
    forms: Sequence[Form] = (EAGER, PEER_BFLOAT16, FAST, FAST_BFLOAT16)
    added = {}
    for form in forms:
        found = memory.in_new_process(
            "detector.benchmarking.inference_memory",
            {
                "form": form.name,
                "depth": depth,
                "proposals": proposals,
                "size": settings.size,
                "num_classes": settings.num_classes,
                "picture": None if settings.picture is None else str(settings.picture),
                "device": str(settings.device),
            },
        )
        added[form.name] = found["added"]
        row: dict[str, Value] = {
            "depth": depth,
            "proposals": proposals,
            "form": form.name,
            "MiB when built": found["built"],
            "MiB added at the peak": found["added"],
            "peer, eager : this": added[EAGER.name] / found["added"],
        }
        report.add(MEMORY, row)
