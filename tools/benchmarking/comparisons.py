"""Rows of times and of ratios, the same for inference and training."""

from collections.abc import Iterable
from statistics import median

from benchmarking.floor import Work, measure_peak
from benchmarking.forms import Form
from benchmarking.measurements import RATIO_COLUMNS, Report, Row
from benchmarking.timing import Samples, cpus, ratio, walls
from benchmarking.what_to_measure import Settings


def report_times(
    settings: Settings, report: Report, table: str, label: Row, forms: Iterable[Form], samples: Samples, work: Work
) -> None:
    """Seconds of a picture, and how near that is to what the machine's measured peak would allow.

    Args:
        label: what the problem is; its `batch` is the pictures of a call.
        work: of one picture.
    """
    batch = int(label["batch"] or 0)
    forms = list(forms)
    peaks = {dtype: measure_peak(dtype, settings.device) for dtype in {form.dtype for form in forms}}
    for form in forms:
        taken = samples[form.name]
        seconds, peak = median(walls(taken)) / batch, peaks[form.dtype]
        row: Row = {
            "form": form.name,
            "s / image": seconds,
            "CPU s / image": median(cpus(taken)) / batch,
            "images / s": 1 / seconds,
            "measured peak, TFLOP/s": peak / 1e12,
            "% of peak (as written)": 100 * work.written / seconds / peak,
            "time : floor (hoisted)": seconds / (work.hoisted / peak),
        }
        report.add(table, label | row, {"wall": walls(taken), "cpu": cpus(taken)})


def report_ratios(report: Report, table: str, label: Row, pairs: Iterable[tuple[Form, Form]], samples: Samples) -> None:
    """How many times longer the first of each pair takes than the second; pairs that were not measured are left out."""
    for slow, fast in pairs:
        if slow.name not in samples or fast.name not in samples:
            continue
        by_wall = ratio(walls(samples[slow.name]), walls(samples[fast.name]))
        by_cpu = ratio(cpus(samples[slow.name]), cpus(samples[fast.name]))
        row: Row = {"slow": slow.name, "fast": fast.name}
        row |= dict(zip(RATIO_COLUMNS, (str(by_cpu), str(by_wall)), strict=True))
        report.add(table, label | row, {"ratio_wall": by_wall.median, "ratio_cpu": by_cpu.median})
