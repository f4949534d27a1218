"""Settings of detection that have no effect, because of other settings."""

from collections.abc import Iterator

from detector.config import Config, DetectionConfig, config_to_dict, flatten

PREFIX = "model.detection."
Void = tuple[tuple[str, ...], str]


def void_detection_settings(detection: DetectionConfig, augmented: bool) -> list[str]:
    """One line for each reason why settings have no effect, naming those that somebody has set: `key=value: reason`.

    Args:
        detection: of the weights, with the overrides of the command line.
        augmented: whether `--augment` was given.
    """
    flat = flatten(config_to_dict(Config()))
    defaults = {key: value for key, value in flat.items() if key.startswith(PREFIX)}
    values = {key: value_of(detection, key.removeprefix(PREFIX)) for key in defaults}
    lines = []
    for names, reason in void_names(detection, augmented):
        keys = [PREFIX + name for name in names]
        changed = [f"{key}={values[key]}" for key in keys if values[key] != defaults[key]]
        if changed:
            lines.append(f"{', '.join(changed)}: {reason}.")
    return lines


def value_of(settings: object, dotted: str) -> object:
    """A setting by its name within a section, lists as `config_to_dict` has them."""
    for name in dotted.split("."):
        settings = getattr(settings, name)
    return list(settings) if isinstance(settings, tuple) else settings


def void_names(detection: DetectionConfig, augmented: bool) -> Iterator[Void]:
    """Names within `model.detection` that something makes void, whether or not they are set, and what it is."""
    merge, views = detection.merge, detection.augment
    if merge != "soft_nms_gaussian":
        yield ("soft_nms_sigma",), f"it belongs to soft_nms_gaussian, and model.detection.merge={merge}"
    if merge != "weighted_fusion":
        yield ("fusion_threshold",), f"it belongs to weighted_fusion, and model.detection.merge={merge}"
    else:
        yield ("voting_threshold",), "model.detection.merge=weighted_fusion takes means itself"
    if merge in ("soft_nms_gaussian", "weighted_fusion") and views.form != "union":
        yield ("nms_threshold",), f"model.detection.merge={merge} does without"
    if detection.refine_passes == 0:
        yield ("refine_keep",), "model.detection.refine_passes is 0"
    yield from ((tuple(f"augment.{name}" for name in names), why) for names, why in _void_views(detection, augmented))


def _void_views(detection: DetectionConfig, augmented: bool) -> Iterator[Void]:
    """`void_names` within `augment`."""
    views = detection.augment
    form = views.form or ("average" if augmented else None)
    names = ("horizontal_flip", "vertical_flip", "scales", "sizes", "max_size", "max_proposals", "canonical_size")
    if form is None:
        yield (
            (*names, "resize_first"),
            "each picture is looked at once; give --augment, or model.detection.augment.form",
        )
        return
    if form != "maxout":
        yield ("canonical_size",), f"it belongs to maxout, and the form is {form}"
    if form != "detectron2":
        yield ("resize_first",), f"it belongs to detectron2, and the form is {form}"
    if form in ("union", "detectron2"):
        yield ("max_proposals",), f"views share no proposals by the form {form}"
    if form == "detectron2":
        yield ("scales",), "the form detectron2 has sizes"
    elif views.sizes:
        yield ("scales",), "model.detection.augment.sizes is given"
    else:
        yield ("max_size",), "it belongs to model.detection.augment.sizes"
