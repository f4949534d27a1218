"""A training step beside the peer: the same losses and gradient, then time and memory."""

import torch

from benchmarking.child_memory import report_memory
from benchmarking.comparisons import report_ratios, report_times
from benchmarking.floor import training_work
from benchmarking.forms import EAGER, FAST, FAST_BFLOAT16, PEER_BFLOAT16, READABLE, runnable
from benchmarking.measurements import Report, Row
from benchmarking.peer import Pair, build_pair
from benchmarking.sample_pictures import load_picture, smaller, variants
from benchmarking.tf32 import true_float32
from benchmarking.timing import take_turns
from benchmarking.training_agreement import compare_training
from benchmarking.training_forms import Step, prepare_step, random_targets
from benchmarking.what_to_measure import Settings
from detector.structures import Target

TABLE, RATIOS, MEMORY, AGREEMENT = "training", "training ratios", "training memory", "training agreement"

MEASURED = (EAGER, PEER_BFLOAT16, READABLE, FAST, FAST_BFLOAT16)
COMPARISONS = ((EAGER, FAST), (EAGER, FAST_BFLOAT16), (PEER_BFLOAT16, FAST_BFLOAT16), (READABLE, FAST))


def run(settings: Settings, report: Report) -> None:
    """Every depth and batch."""
    pixels = variants(load_picture(settings.picture, settings.size), max(settings.batches))
    targets = random_targets(settings.size, len(pixels), settings.num_classes)
    for depth in settings.depths:
        numbers = (settings.num_classes, max(settings.proposals), settings.rois)
        pair = build_pair(smaller(pixels[0]), settings.size, depth, *numbers, settings.kind)
        if _agree(settings, report, pair, pixels[:1], targets[:1], depth):
            for batch in settings.batches:
                label: Row = {"depth": depth, "batch": batch}
                _one_problem(settings, report, pair, pixels[:batch], targets[:batch], label)
        if settings.measures_peaks:
            report_memory(settings, report, MEMORY, {"depth": depth}, (EAGER, PEER_BFLOAT16, FAST, FAST_BFLOAT16))


def _agree(
    settings: Settings, report: Report, pair: Pair, pixels: torch.Tensor, targets: list[Target], depth: int
) -> bool:
    with true_float32():
        agreement = compare_training(pair, pixels, targets, settings.device)
    row: Row = {"depth": depth}
    row |= {f"{name}, ours : peer": f"{ours:.5f} : {agreement.peer[name]:.5f}" for name, ours in agreement.ours.items()}
    row |= {"largest relative difference": agreement.loss, "gradient": agreement.gradient}
    row |= {"peer's own gradient, channels-last": agreement.own}
    report.add(AGREEMENT, row)
    if agreement.refusal is not None:
        report.refuse(f"training, depth {depth}", agreement.refusal)
    return agreement.refusal is None


def _one_problem(
    settings: Settings, report: Report, pair: Pair, pixels: torch.Tensor, targets: list[Target], label: Row
) -> None:
    forms = runnable(MEASURED, settings.device)
    work = training_work(pair.config, settings.size, settings.rois)
    steps = {form: prepare_step(form, pair, pixels, targets, settings.device) for form in forms}
    for threads in settings.threads:
        torch.set_num_threads(threads)
        regions = {form.name: _warm_up(form.name, step) for form, step in steps.items()}
        if set(regions.values()) != {len(pixels) * settings.rois}:
            report.refuse(f"training, {label}", f"not {settings.rois} regions a picture in every step: {regions}")
            return
        calls = {form.name: step.run for form, step in steps.items()}
        samples = take_turns(calls, settings.rounds, settings.device, settings.repeats)
        with_threads = label | settings.run_label(threads)
        report_times(settings, report, TABLE, with_threads, forms, samples, work)
        report_ratios(report, RATIOS, with_threads, COMPARISONS, samples)


def _warm_up(name: str, step: Step) -> int:
    """A step; says the losses, and returns how many regions went through conv5_x."""
    losses = ", ".join(f"{key} {float(loss):.3f}" for key, loss in step.run().items())
    print(f"  {name}: {step.regions()} regions, {losses} (each draws its own samples)", flush=True)
    return step.regions()
