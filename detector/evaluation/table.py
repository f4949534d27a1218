"""Metrics as text for people."""

from detector.evaluation.coco_eval import CocoMetrics
from detector.evaluation.incomplete import describe_incomplete
from detector.printing import columns_of, pad, printable

# The wording of pycocotools, which everyone in the field reads at a glance.
_LINES = (
    ("AP", "Average Precision  (AP)", "0.50:0.95", "all", 100),
    ("AP50", "Average Precision  (AP)", "0.50", "all", 100),
    ("AP75", "Average Precision  (AP)", "0.75", "all", 100),
    ("APs", "Average Precision  (AP)", "0.50:0.95", "small", 100),
    ("APm", "Average Precision  (AP)", "0.50:0.95", "medium", 100),
    ("APl", "Average Precision  (AP)", "0.50:0.95", "large", 100),
    ("AR1", "Average Recall     (AR)", "0.50:0.95", "all", 1),
    ("AR10", "Average Recall     (AR)", "0.50:0.95", "all", 10),
    ("AR100", "Average Recall     (AR)", "0.50:0.95", "all", 100),
    ("ARs", "Average Recall     (AR)", "0.50:0.95", "small", 100),
    ("ARm", "Average Recall     (AR)", "0.50:0.95", "medium", 100),
    ("ARl", "Average Recall     (AR)", "0.50:0.95", "large", 100),
)


def metrics_table(metrics: CocoMetrics) -> str:
    """COCO's twelve lines, then a line for every category. Undefined numbers read "n/a (no ground truth)".

    The last line says so where the numbers are not those of the whole set.
    """
    lines = [
        f" {title} @[ IoU={iou:<9} | area={area:>6} | maxDets={count:>3} ] = {_number(getattr(metrics, name))}"
        for name, title, iou, area, count in _LINES
    ]
    names = [printable(one.name, limit=60) for one in metrics.per_class]
    width = max(map(columns_of, ("category", *names)))
    lines += ["", f" {'id':>6}  {pad('category', width)}  {'boxes':>7}  {'detections':>10}  {'AP50':>6}  AP"]
    for one, name in zip(metrics.per_class, names, strict=True):
        fifty = "" if one.AP50 < 0 else f"{one.AP50:.3f}"
        lines.append(
            f" {one.category_id:>6}  {pad(name, width)}  {one.ground_truth:>7}  {one.detections:>10}  "
            f"{fifty:>6}  {_number(one.AP)}"
        )
    incomplete = describe_incomplete(metrics.unreadable)
    return "\n".join([*lines, *(["", printable(incomplete)] if incomplete else [])])


def _number(value: float) -> str:
    return "n/a (no ground truth)" if value < 0 else f"{value:.3f}"
