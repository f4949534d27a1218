"""Inference beside the peer: the same detections, then time, memory, and the share of the machine's peak."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarking.agreement import NEAR_IOU, SAME_IOU, Agreement, compare, refusal_exact, refusal_near
from benchmarking.child_memory import report_memory
from benchmarking.comparisons import report_ratios, report_times
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
    runnable,
    warm_up,
)
from benchmarking.measurements import Report, Row
from benchmarking.peer import Pair, build_pair
from benchmarking.sample_pictures import load_picture, smaller, variants
from benchmarking.tf32 import true_float32
from benchmarking.timing import take_turns, walls
from benchmarking.what_to_measure import Settings

TABLE, RATIOS, MEMORY, AGREEMENT = "inference", "inference ratios", "inference memory", "inference agreement"

LATENCY, LATENCY_CALLS = "inference latency", 40

COMPARED = (EAGER, FAST, PEER_BFLOAT16, FAST_BFLOAT16)  # their detections, and their memory
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
            label: Row = {"depth": depth, "proposals": proposals}
            problem = (settings.size, depth, settings.num_classes, proposals, settings.rois, settings.kind)
            pair = build_pair(smaller(pixels[0]), *problem)
            for batch in settings.batches:
                _one_problem(settings, report, pair, pixels[:batch], label | {"batch": batch})
    if settings.measures_peaks:
        for depth in settings.depths:
            largest: Row = {"depth": depth, "proposals": max(settings.proposals)}
            report_memory(settings, report, MEMORY, largest, COMPARED)


def _one_problem(settings: Settings, report: Report, pair: Pair, pixels: Tensor, label: Row) -> None:
    def make(form: Form) -> Run:
        return prepare(form, pair, pixels, settings.device)

    agreed = _agree(report, make, label, runnable(COMPARED, settings.device))
    # Where detections differ no ratio means anything. Our own time does: it is of our network alone.
    wanted = [*(FORMS[name] for name in settings.forms if agreed), *OURS]
    runs = {form: make(form) for form in runnable(wanted, settings.device)}
    left_out = [form.name for form in wanted if form not in runs]
    if left_out:
        report.note(f"left out: {'; '.join(left_out)}: this processor has no kernels for bfloat16")
    work = inference_work(pair.config, settings.size, int(label["proposals"] or 0))
    for threads in settings.threads:
        torch.set_num_threads(threads)
        ready = _warm_up_all(runs, report)
        calls = {form.name: runs[form] for form in ready}
        samples = take_turns(calls, settings.rounds, settings.device, settings.repeats)
        row = label | settings.run_label(threads)
        report_times(settings, report, TABLE, row, ready, samples, work)
        if agreed:
            report_ratios(report, RATIOS, row, COMPARISONS, samples)
    if settings.device.type == "cuda" and len(pixels) == 1:
        _report_latencies(settings, report, label, {form.name: runs[form] for form in ready})


def _report_latencies(settings: Settings, report: Report, label: Row, calls: dict[str, Run]) -> None:
    """Time single pictures, the device idle before each; in the other tables they follow each other without a pause."""
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


def _agree(report: Report, make: Callable[[Form], Run], label: Row, forms: Sequence[Form]) -> bool:
    """Whether ours finds what the peer finds, and in bfloat16 is as near to it as the peer's own bfloat16."""
    with true_float32():
        detections = {form: make(form)() for form in forms}
    agreements = {"ours : peer": compare(detections[FAST], detections[EAGER], SAME_IOU)}
    reasons = [refusal_exact(agreements["ours : peer"])]
    if FAST_BFLOAT16 in detections:
        ours = compare(detections[FAST_BFLOAT16], detections[FAST], NEAR_IOU)
        peers = compare(detections[PEER_BFLOAT16], detections[EAGER], NEAR_IOU)
        agreements |= {"ours, bf16 : ours": ours, "peer, bf16 : peer": peers}
        reasons.append(refusal_near(ours, peers))
    for name, agreement in agreements.items():
        report.add(AGREEMENT, label | {"compared": name} | describe(agreement))
    refusals = [why for why in reasons if why is not None]
    for why in refusals:
        report.refuse(f"inference, {', '.join(f'{key} {value}' for key, value in label.items())}", why)
    return not refusals


def describe(agreement: Agreement) -> Row:
    """An agreement as columns of a table."""
    return {
        "detections": f"{agreement.counts[0]} : {agreement.counts[1]}",
        "matched": agreement.matched,
        "mean IoU": agreement.overlap.value,
        "mean score shift": agreement.shift.value,
        "largest box difference, px": agreement.box,
        "largest score difference": agreement.score,
    }
