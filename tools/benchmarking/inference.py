"""Inference beside the peer: the same detections, then time, memory, and the share of the machine's peak."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarking.agreement import NEAR_IOU, SAME_IOU, Agreement, compare, refusal_exact, refusal_near
from benchmarking.child_memory import report_memory
from benchmarking.comparisons import Label, report_ratios, report_times
from benchmarking.floor import inference_work
from benchmarking.forms import (
    EAGER,
    FAST,
    FAST_BFLOAT16,
    FAST_COMPILED,
    FORMS,
    OURS,
    PEER_BFLOAT16,
    STRONGEST,
    CannotCompileError,
    Form,
    Run,
    prepare,
    warm_up,
)
from benchmarking.peer import Pair, build_pair
from benchmarking.pictures import load_picture, smaller, variants
from benchmarking.precision import true_float32
from benchmarking.report import Report
from benchmarking.settings import Settings
from benchmarking.timing import take_turns, walls

TABLE, RATIOS, MEMORY, AGREEMENT = "inference", "inference ratios", "inference memory", "inference agreement"

LATENCY, LATENCY_CALLS = "inference latency", 40

COMPARED = (EAGER, FAST, PEER_BFLOAT16, FAST_BFLOAT16)  # whose detections, and whose memory
COMPARISONS = (
    (EAGER, FAST),
    (FORMS["compiled"], FAST),
    (EAGER, FAST_BFLOAT16),
    (PEER_BFLOAT16, FAST_BFLOAT16),
    (STRONGEST, FAST_BFLOAT16),
    (STRONGEST, FAST_COMPILED),
    (FAST_BFLOAT16, FAST_COMPILED),
)


def run(settings: Settings, report: Report) -> None:
    """Every depth, number of proposals and batch."""
    pixels = variants(load_picture(settings.picture, settings.size), max(settings.batches))
    for depth in settings.depths:
        for proposals in settings.proposals:
            label: Label = {"depth": depth, "proposals": proposals}
            pair = build_pair(smaller(pixels[0]), settings.size, depth, settings.num_classes, proposals)
            for batch in settings.batches:
                _one_problem(settings, report, pair, pixels[:batch], label | {"batch": batch})
    for depth in settings.depths:
        report_memory(settings, report, MEMORY, {"depth": depth, "proposals": max(settings.proposals)}, COMPARED)


def _one_problem(settings: Settings, report: Report, pair: Pair, pixels: Tensor, label: Label) -> None:
    def make(form: Form) -> Run:
        return prepare(form, pair, pixels, settings.device)

    if not _agree(report, make, label):
        return
    runs = {form: make(form) for form in (*(FORMS[name] for name in settings.forms), *OURS)}
    work = inference_work(pair.config, settings.size, int(label["proposals"] or 0))
    for threads in settings.threads:
        torch.set_num_threads(threads)
        ready = _warm_up_all(runs, report)
        calls = {form.name: runs[form] for form in ready}
        samples = take_turns(calls, settings.rounds, settings.device, settings.repeats)
        row = label | settings.threads_label(threads)
        report_times(settings, report, TABLE, row, ready, samples, work)
        report_ratios(report, RATIOS, row, COMPARISONS, samples)
    if settings.device.type == "cuda" and len(pixels) == 1:
        _report_latencies(settings, report, label, {form.name: runs[form] for form in ready})


def _report_latencies(settings: Settings, report: Report, label: Label, calls: dict[str, Run]) -> None:
    """Of single pictures, the device idle before each; above, pictures follow each other without a pause."""
    samples = take_turns(calls, LATENCY_CALLS, settings.device)
    for name, taken in samples.items():
        milliseconds = sorted(1000 * seconds for seconds in walls(taken))
        middle, late = (milliseconds[round(share * (len(milliseconds) - 1))] for share in (0.5, 0.95))
        report.add(LATENCY, label | {"form": name, "p50, ms": middle, "p95, ms": late}, {"all": milliseconds})


def _warm_up_all(runs: dict[Form, Run], report: Report) -> list[Form]:
    """Those that work here; of the others the report says why they do not."""
    ready = []
    for form, call in runs.items():
        try:
            warm_up(form, call)
            ready.append(form)
        except CannotCompileError as error:
            report.note(f"left out: {form.name}, which cannot be compiled here: {error}")
    return ready


def _agree(report: Report, make: Callable[[Form], Run], label: Label) -> bool:
    """Whether ours finds what the peer finds, and in bfloat16 is as near to it as the peer's own bfloat16."""
    with true_float32():
        found = {form.name: make(form)() for form in COMPARED}
    exact = compare(found[FAST.name], found[EAGER.name], SAME_IOU)
    ours = compare(found[FAST_BFLOAT16.name], found[FAST.name], NEAR_IOU)
    peers = compare(found[PEER_BFLOAT16.name], found[EAGER.name], NEAR_IOU)
    for name, agreement in (("ours : peer", exact), ("ours, bf16 : ours", ours), ("peer, bf16 : peer", peers)):
        report.add(AGREEMENT, label | {"compared": name} | describe(agreement))
    refusals = [why for why in (refusal_exact(exact), refusal_near(ours, peers)) if why is not None]
    for why in refusals:
        report.refuse(f"inference, {', '.join(f'{key} {value}' for key, value in label.items())}", why)
    return not refusals


def describe(agreement: Agreement) -> Label:
    """For a table."""
    return {
        "detections": f"{agreement.found[0]} : {agreement.found[1]}",
        "matched": agreement.matched,
        "mean IoU": agreement.overlap.value,
        "mean score shift": agreement.shift.value,
        "largest box difference, px": agreement.box,
        "largest score difference": agreement.score,
    }
