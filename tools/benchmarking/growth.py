"""How the time of a picture grows with its size, the regions, the classes and the batch: ours, one thing at a time."""

import gc
from dataclasses import replace
from statistics import median

import torch

from benchmarking.floor import inference_work
from benchmarking.forms import OURS, prepare, runnable, warm_up
from benchmarking.measurements import Report, Row
from benchmarking.peer import build_pair
from benchmarking.sample_pictures import load_picture, smaller, variants
from benchmarking.timing import cpus, take_turns, walls
from benchmarking.what_to_measure import Settings

TABLE = "growth"

SIZES = ((400, 608), (600, 896), (800, 1216), (1000, 1504), (1200, 1824))
PROPOSALS = (50, 100, 300, 1000, 2000)
CLASSES = (20, 80, 1203)
BATCHES = (1, 2, 4, 8)
ROUNDS = 3
START_PROPOSALS, START_CLASSES = 300, 80


def run(settings: Settings, report: Report) -> None:
    """Everything starts from one problem, 300 proposals and 80 classes of one picture, and one number of it changes."""
    torch.set_num_threads(settings.threads[-1])
    for what, value, problem in (_quick_problems if settings.quick else _problems)(settings):
        _measure(problem, report, {"what grows": what, "to": value})
        gc.collect()


Problem = tuple[str, str, Settings]  # what grows, to which value, and all of the problem


def _problems(settings: Settings) -> list[Problem]:
    base = replace(settings, proposals=(START_PROPOSALS,), num_classes=START_CLASSES, batches=(1,))
    return [
        *(("size", f"{size[0]}×{size[1]}", replace(base, size=size)) for size in SIZES),
        *(("proposals", str(count), replace(base, proposals=(count,))) for count in PROPOSALS),
        *(("classes", str(count), replace(base, num_classes=count)) for count in CLASSES),
        *(("batch", str(count), replace(base, batches=(count,))) for count in BATCHES),
    ]


def _quick_problems(settings: Settings) -> list[Problem]:
    many = CLASSES[-1]
    return [("classes", str(many), replace(settings, num_classes=many, batches=(1,)))]


def _measure(problem: Settings, report: Report, label: Row) -> None:
    batch, proposals = problem.batches[0], problem.proposals[0]
    pixels = variants(load_picture(problem.picture, problem.size), batch)
    numbers = (problem.depths[0], problem.num_classes, proposals, problem.rois)
    pair = build_pair(smaller(pixels[0]), problem.size, *numbers, problem.kind)
    forms = runnable(OURS, problem.device)
    calls = {form.name: prepare(form, pair, pixels, problem.device) for form in forms}
    for form in forms:
        warm_up(form, calls[form.name])
    samples = take_turns(calls, min(problem.rounds, ROUNDS), problem.device, problem.repeats)
    work = inference_work(pair.config, problem.size, proposals).hoisted
    row: Row = label | {"TFLOP / image (hoisted)": work / 1e12}
    for name, taken in samples.items():
        row[f"{name}, s / image"] = median(walls(taken)) / batch
        row[f"{name}, CPU s / image"] = median(cpus(taken)) / batch
    report.add(TABLE, row)
