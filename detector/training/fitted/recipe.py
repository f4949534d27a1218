"""The rules of a fitted recipe, in the order in which one needs another's result."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from detector.training.fitted.anchor_fit import propose, resized_boxes
from detector.training.fitted.choice import Choice
from detector.training.fitted.facts import Facts
from detector.training.fitted.machine import Machine

# From the best start to the next best.
DETECTOR, BACKBONE = "R50-FPN-3x", "MSRA-R-50"
NAMES = (DETECTOR, BACKBONE)

_WANTED_EDGE = {"fpn": 24.0, "c4": 32.0}  # pixels of the input image that nine of ten boxes should have
_LIMITS = {True: (480, 800), False: (240, 480)}  # of the shortest edge, on a GPU and on a processor
_LARGEST_ZOOM = 2.0
_ROOM = {True: 1.5, False: 1.0}  # times the wanted edge that pictures keep on a processor; from scratch or not
_LONGEST = 5 / 3  # of the shortest edge, as 1333 is of 800
_SCALES = (0.8, 0.9, 1.0, 1.1, 1.2)  # of the test size, in training
_VARIETY = 2.0  # times the size of the smallest tenth of a class that the largest has, from which size says little
_BYTES_A_PIXEL = 2500  # of a training step, ResNet-50 in half precision
_MOST_EPOCHS = 72
_CPU_MINUTES = 30  # of one core for a run without a GPU, which is to be done within an hour beside other work
_SECONDS = {True: (0.12, 0.4), False: (0.45, 9.7)}  # of one core a picture and a million pixels; from scratch or not
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # of a name, whether parted by signs or by capitals
_IMBALANCE = 20  # times as many boxes of one class as of another
_REPEAT_THRESHOLD = 0.15
_WEIGHTS = ("model.weights", "model.backbone.weights")
_PROPOSALS_A_BOX = 3
_GOOD_RECALL = 0.95  # at IoU 0.5: anchors that weights are trained with are kept
_WARN_RECALL = 0.9


def choose_recipe(facts: Facts, machine: Machine, given: Mapping[str, Any]) -> list[Choice]:
    """Every choice for a set on a machine.

    Args:
        facts: of the training pictures.
        machine: that they are trained on.
        given: settings of the user, by dotted name; what depends on them follows.
    """
    start = _start(machine)
    is_scratch = all(start.values.get(key, given.get(key)) is None for key in _WEIGHTS)
    kind = str(given.get("model.kind", start.values.get("model.kind", "c4")))
    size = _input_size(facts, machine, kind, is_scratch)
    shortest = int(given.get("input.min_size_test", size.values["input.min_size_test"]))
    longest = int(given.get("input.max_size_test", size.values["input.max_size_test"]))
    batch = _batch(facts, machine, shortest)
    batch_size = int(given.get("train.batch_size", batch.values["train.batch_size"]))
    aspect = facts.longest / facts.shortest if facts.shortest else 1.0
    length = _length(facts, machine, batch_size, shortest * min(longest, shortest * aspect), is_scratch)
    evaluation = _evaluation(facts, length.values["train.iterations"] * batch_size)
    epochs = given.get("train.epochs")
    return [
        start,
        size,
        _anchors(facts, kind, shortest, longest, is_detector="model.weights" in start.values),
        _regions(facts, machine, start),
        batch,
        length if epochs is None else _asked_for(length, epochs),
        evaluation,
        _augmentation(facts),
        _sampling(facts),
    ]


def base_recipe(machine: Machine) -> str | None:
    """The recipe below the choices: that of the small network where there are no weights; None: the defaults."""
    return None if machine.reachable else "quickstart"


def _start(machine: Machine) -> Choice:
    if DETECTOR in machine.reachable:
        values: dict[str, Any] = {"model.kind": "fpn", "model.backbone.depth": 50, "model.weights": DETECTOR}
        reason = f"a detector that knows COCO's 80 classes is the best start, and {DETECTOR} can be had"
    elif BACKBONE in machine.reachable:
        values = {"model.kind": "fpn", "model.backbone.depth": 50, "model.backbone.weights": BACKBONE}
        values |= {"input.pixel_mean": (123.68, 116.779, 103.939)}
        reason = f"{DETECTOR} cannot be had; {BACKBONE} knows ImageNet's pictures"
    else:
        values = {"model.kind": "c4", "model.backbone.depth": 18, "model.backbone.norm": "batch"}
        values |= {"model.backbone.width": 32 if machine.is_gpu else 16, "model.backbone.freeze_stages": 0}
        reason = (
            "no published weights are cached or can be fetched: a small network from scratch, of the recipe "
            "quickstart; `faster-rcnn models` says where to put weights"
        )
        return Choice("network", values, reason)
    if not machine.is_gpu:
        values |= {"model.backbone.freeze_stages": 3, "model.roi.batch_size_per_image": 64}
        values |= {"model.rpn.post_nms_top_n_train": 500, "model.rpn.post_nms_top_n_test": 300}
        reason += "; without a GPU its first three stages stay as they are, and fewer regions are looked at"
    return Choice("network", values, reason)


def _input_size(facts: Facts, machine: Machine, kind: str, is_scratch: bool) -> Choice:
    """How large pictures are shown, so that the boxes of the smallest class have the size that a network sees well."""
    least, most = _LIMITS[machine.is_gpu]
    room = _ROOM[is_scratch]
    small = facts.small() if facts.shortest > 0 else None
    if small is None:
        shortest, reason = most, "no box in a picture of known size says otherwise"
    else:
        wanted = _WANTED_EDGE[kind if kind in _WANTED_EDGE else "c4"]
        zoom = min(_LARGEST_ZOOM, wanted / small.edge)
        if zoom < 1:  # time is short on a processor alone
            zoom = 1.0 if machine.is_gpu else min(1.0, room * zoom)
        shortest = 16 * max(1, round(min(max(facts.shortest * zoom, least), most) / 16))
        which = f" of {small.name}, a class of small ones," if len(facts.names) > 1 else ""
        kept = f"{wanted:.0f} to {room * wanted:.0f}" if room > 1 and not machine.is_gpu else f"{wanted:.0f}"
        resized = small.edge * shortest / facts.shortest
        reason = (
            f"nine of ten boxes{which} have {small.edge:.0f} pixels and more (√area) in pictures whose shortest edge "
            f"is {facts.shortest:.0f}; resized {resized:.0f}, where {kept} are wanted, "
            f"within {least} to {most} for {'a GPU' if machine.is_gpu else 'a processor'}"
        )
    aspect = max(_LONGEST, facts.longest / facts.shortest if facts.shortest else 1.0)
    longest = math.ceil(shortest * min(aspect, 3.0))
    sizes, why = _training_sizes(facts, shortest, is_brief=is_scratch and not machine.is_gpu)
    reason += why
    values: dict[str, Any] = {"input.min_size_test": shortest, "input.max_size_test": longest}
    values |= {"input.min_size_train": sizes, "input.max_size_train": math.ceil(longest * sizes[-1] / shortest)}
    warning = None
    if small is not None and small.median * shortest / facts.shortest < 16:
        warning = (
            f"half of the boxes of {small.name} have less than 16 pixels (√area) once resized; larger pictures, or "
            "tiles, would help."
        )
    return Choice("input", values, reason, warning)


def _training_sizes(facts: Facts, shortest: int, is_brief: bool) -> tuple[tuple[int, ...], str]:
    """Shortest edges that pictures are resized to in training, and why, where there is something to say.

    A run from scratch on a processor is brief and learns what it is shown. Cells under a microscope have a size, which
    tells their classes apart: with several sizes in training BCCD had 2 AP less. What is photographed from near
    and far has none: with one size raccoons had 7 AP less (README.md). The limit lies between these two sets.
    """
    several = tuple(round(shortest * scale) for scale in _SCALES)
    variety = facts.variety()
    if not is_brief or variety is None:
        return several, ""
    vary = f"the larger boxes of a class are {variety:.1f} times the size of the smaller (9th and 1st tenth)"
    if variety < _VARIETY:
        return (shortest,), f"; {vary}: size tells what a thing is, so pictures are trained on at one size"
    return several, f"; {vary}: size says little, so pictures are trained on at several sizes"


def _anchors(facts: Facts, kind: str, shortest: int, longest: int, is_detector: bool) -> Choice:
    """The default anchors where they fit the boxes well enough, else those that fit best of some that are tried."""
    boxes = resized_boxes(facts.boxes, facts.sizes, shortest, longest, "pil")
    default, best = propose(boxes, octaves=kind == "fpn")
    chosen = default if is_detector and default.recall50 >= _GOOD_RECALL else best
    reason = (
        f"boxes with an anchor of IoU ≥ 0.5: {default.recall50:.1%} by default, {chosen.recall50:.1%} with these; "
        f"≥ 0.7: {default.recall70:.1%} and {chosen.recall70:.1%}"
    )
    if chosen is default:
        kept = "the weights were trained with them" if is_detector else "none that were tried are better"
        reason = f"the defaults are kept, {kept}; {reason}"
    warning = None
    if chosen.recall50 < _WARN_RECALL:
        warning = (
            f"only {chosen.recall50:.0%} of the boxes have an anchor of their size and shape (IoU ≥ 0.5): boxes of "
            "very different sizes or shapes; look at them with faster-rcnn check-data."
        )
    values = {"model.rpn.anchor_sizes": chosen.sizes, "model.rpn.anchor_ratios": chosen.ratios}
    return Choice("anchors", values, reason, warning)


def _regions(facts: Facts, machine: Machine, start: Choice) -> Choice:
    """Proposals and detections enough for the fullest pictures: a box without one is lost."""
    fewest = int(start.values.get("model.rpn.post_nms_top_n_test", 1000 if base_recipe(machine) is None else 100))
    wanted = 50 * math.ceil(_PROPOSALS_A_BOX * facts.fullest / 50)
    compared = f"99 of 100 pictures have {facts.fullest} boxes or fewer, and {_PROPOSALS_A_BOX} proposals each"
    if wanted <= fewest:
        return Choice("regions", {}, f"{compared} are no more than the {fewest} there are")
    values: dict[str, Any] = {"model.rpn.post_nms_top_n_test": wanted, "model.rpn.post_nms_top_n_train": 2 * wanted}
    values |= {f"model.rpn.pre_nms_top_n_{phase}": 6 * wanted for phase in ("train", "test")}
    values |= {"model.detection.max_per_image": max(100, 2 * facts.fullest)}
    return Choice("regions", values, f"{compared} are more than the {fewest} there would be")


def _batch(facts: Facts, machine: Machine, shortest: int) -> Choice:
    """As many pictures a step as the GPU has memory for, 16 at most."""
    workers = min(4, max(1, machine.processors - 1))
    if not machine.is_gpu:
        values: dict[str, Any] = {"train.batch_size": 2, "data.num_workers": min(workers, 2)}
        return Choice("batch", values, "without a GPU time is short, and many small steps learn more in it than few")
    aspect = facts.longest / facts.shortest if facts.shortest else 1.5
    each = shortest**2 * aspect * _SCALES[-1] ** 2 * _BYTES_A_PIXEL
    fitting = 4 if machine.free_bytes is None else int(0.7 * machine.free_bytes / each)
    size = max(1, min(16, 2 ** int(math.log2(max(1, fitting)))))
    free = "" if machine.free_bytes is None else f"{machine.free_bytes / 1e9:.0f} GB are free, "
    reason = f"{free}a picture of this size takes about {each / 1e9:.1f} GB; at most 16"
    return Choice("batch", {"train.batch_size": size, "data.num_workers": workers}, reason)


def _length(facts: Facts, machine: Machine, batch_size: int, pixels: float, is_scratch: bool) -> Choice:
    """How long to train, and by what rate: more passes over few pictures, and no longer than the machine allows."""
    epochs = 1000 / math.sqrt(max(1, facts.pictures)) * (2 if is_scratch else 1)
    epochs = min(_MOST_EPOCHS, max(12, round(epochs)))
    seen, least = epochs * facts.pictures, 8000 if machine.is_gpu else 2000 if is_scratch else 500
    law = f"{'2000' if is_scratch else '1000'} / √pictures, 12 to {_MOST_EPOCHS}: more would learn a small set by heart"
    reason = f"{epochs} epochs ({law}) of {facts.pictures} pictures"
    if not machine.is_gpu and seen > (most := max(least, _affordable(pixels, is_scratch))):
        seen = most
        reason += f"; held to {most:,} pictures seen, about {_CPU_MINUTES} minutes of one core at this size"
    elif seen < least:
        seen = least
        reason += f"; at least {least:,} pictures seen"
    values: dict[str, Any] = {"train.iterations": max(1, math.ceil(seen / batch_size))}
    values |= {"train.schedule": "cosine", "train.warmup_iterations": 0.05, "train.clip_gradient_norm": 10.0}
    if is_scratch:
        values |= {"train.learning_rate": min(0.0075 * batch_size, 0.03), "train.reference_batch_size": None}
        values |= {"train.ema_decay": 0.995, "train.weight_decay": 0.0003}
    else:
        values |= {"train.learning_rate": 0.02, "train.reference_batch_size": 16}
    return Choice("length", values, reason)


def _affordable(pixels: float, is_scratch: bool) -> int:
    """Pictures of so many pixels that a processor trains on in the time that there is, in hundreds."""
    fixed, each = _SECONDS[is_scratch]
    return 100 * max(1, round(_CPU_MINUTES * 0.6 / (fixed + each * pixels / 1e6)))


def _asked_for(length: Choice, epochs: float) -> Choice:
    """The length in epochs that the user gave, with the rest of the choice."""
    values = {"train.epochs": epochs} | {k: v for k, v in length.values.items() if k != "train.iterations"}
    return Choice("length", values, "as many passes over the pictures as are asked for")


def _evaluation(facts: Facts, seen: int) -> Choice:
    """As many evaluations as take no more than about a tenth of the time, two to ten."""
    times = min(10, max(2, round(0.2 * seen / max(1, facts.val_pictures))))
    values: dict[str, Any] = {"train.evaluate_every": 1 / times, "train.patience": math.ceil(times / 2)}
    values |= {"train.save_every": 500, "train.log_every": 20}
    reason = f"{times} times, about a tenth of the time at most; half of the run without a better AP ends it"
    return Choice("evaluation", values, reason)


def _augmentation(facts: Facts) -> Choice:
    """Whether pictures are mirrored and their colours vary."""
    sided = [name for name in facts.names if _has_side(name, facts.names)]
    # Whether a set has an up cannot be measured: pictures are told from their upside-down copies by the light, which
    # falls one way in a microscope too (by their gradients, 99 of 100 pictures of blood cells, 66 of raccoons).
    written = [name for name in facts.names if name.isdecimal() or (len(name) == 1 and name.isalnum())]
    few = facts.pictures < 1000
    values: dict[str, Any] = {"data.augment.horizontal_flip": 0.0 if sided or len(written) > 1 else 0.5}
    values |= {"data.augment.vertical_flip": 0.0, "data.augment.color_jitter": 0.5 if few else 0.0}
    if sided:
        reason = f"no mirroring: {sided[0]} would become another class"
    elif len(written) > 1:
        reason = f"no mirroring: {written[0]} and {written[1]} look like letters or digits"
    else:
        reason = (
            "no class name speaks of left and right, so pictures are mirrored; whether up means something the "
            "pictures do not tell: where it does not (cells seen from above, satellites) add "
            "data.augment.vertical_flip=0.5"
        )
    reason += "; few pictures, so their colours vary" if few else ""
    return Choice("augment", values, reason)


def _sampling(facts: Facts) -> Choice:
    """Whether pictures of rare classes are shown more often."""
    counts = [(count, name) for count, name in zip(facts.per_class, facts.names, strict=True) if count > 0]
    if len(counts) < 2:
        return Choice("sampling", {"data.repeat_threshold": None}, "one class: nothing to balance")
    most, least = max(counts), min(counts)
    factor = most[0] / least[0]
    compared = f"{most[1]} has {factor:.0f} times as many boxes as {least[1]}"
    if factor < _IMBALANCE:
        values: dict[str, Any] = {"data.repeat_threshold": None}
        return Choice("sampling", values, f"{compared}, less than {_IMBALANCE}: all pictures alike")
    return Choice(
        "sampling", {"data.repeat_threshold": _REPEAT_THRESHOLD}, f"{compared}: rare ones are shown more often"
    )


def _has_side(name: str, names: Sequence[str]) -> bool:
    """Whether a class is another one in the mirror.

    `left` or `right` is a word of its name (`turnLeft`, `left-arm`), or the name with the other word in its place is
    another class (`leftturn` and `rightturn`).
    """
    words = {word.lower() for word in _WORD.findall(name)}
    lower = name.lower()
    others = {one.lower() for one in names}
    swapped = {lower.replace("left", "right"), lower.replace("right", "left")} - {lower}
    return bool(words & {"left", "right", "l", "r"} or swapped & others)
