"""Where the time goes: the ten costliest operators of ours and of the peer, in inference and in a training step."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarking.forms import EAGER, FAST, FAST_BFLOAT16, Form, prepare
from benchmarking.measurements import Report
from benchmarking.peer import build_pair
from benchmarking.sample_pictures import load_picture, smaller, variants
from benchmarking.training_forms import prepare_step, random_targets
from benchmarking.what_to_measure import Settings

TOP = 10


def run(settings: Settings, report: Report) -> None:
    """One call of each form after a first; `profile.txt` has PyTorch's own tables."""
    torch.set_num_threads(settings.threads[-1])
    pixels = variants(load_picture(settings.picture, settings.size), 1)
    depth, proposals = settings.depths[-1], max(settings.proposals)
    numbers = (depth, settings.num_classes, proposals, settings.rois)
    pair = build_pair(smaller(pixels[0]), settings.size, *numbers, settings.kind)
    targets = random_targets(settings.size, 1, settings.num_classes)
    # On a GPU bfloat16 is what users get; on a CPU float32 is.
    ours = FAST_BFLOAT16 if settings.device.type == "cuda" else FAST
    calls: dict[tuple[str, Form], Callable[[], object]] = {}
    for form in (EAGER, ours):
        calls["inference", form] = prepare(form, pair, pixels, settings.device)
        calls["training", form] = prepare_step(form, pair, pixels, targets, settings.device).run
    texts = []
    for (what, form), call in calls.items():
        call()
        texts.append(f"{what}: {form.name}\n{_top(call, report, f'top {TOP}, {what}: {form.name}', settings.device)}")
    report.write_file("profile.txt", "\n\n".join(texts) + "\n")


def _top(call: Callable[[], object], report: Report, table: str, device: torch.device) -> str:
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as recorded:
        call()
        if on_gpu:
            torch.cuda.synchronize(device)
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    averages = recorded.key_averages()
    # On a GPU its kernels; the operators that launch them are charged with the same time once more.
    events: list[Any] = [event for event in averages if (event.device_type.name != "CPU") == on_gpu]
    total = sum(getattr(event, key) for event in events)
    for event in sorted(events, key=lambda event: -getattr(event, key))[:TOP]:
        milliseconds = getattr(event, key) / 1000
        row = {"operator": event.key[:60], "calls": event.count, "ms": milliseconds, "%": 1e5 * milliseconds / total}
        report.add(table, row)
    return averages.table(sort_by=key, row_limit=TOP)
