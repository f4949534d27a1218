"""How mmdetection prepares a picture, as ours: resize, colour order, mean and deviation, padding.

Version 3 has `model.data_preprocessor` and the pipeline of `test_dataloader`; version 2 has all of it in that of
`data.test`, inside of `MultiScaleFlipAug`.
"""

from collections.abc import Mapping
from typing import Any

from detector.weights.lineages.mmdetection_section import Section, as_lists, is_numbers

READERS = ("LoadImageFromFile", "LoadImageFromWebcam", "LoadImageFromNDArray")
HARMLESS = ("LoadAnnotations", "PackDetInputs", "RandomFlip", "ImageToTensor", "DefaultFormatBundle", "Collect")
TRAINING_RESIZES = ("Resize", "RandomChoiceResize", "RandomResize")


def input_settings(values: Mapping[str, Any], problems: list[str]) -> tuple[dict[str, Any], bool]:
    """Our settings of the input, under dotted keys, and whether the network wants RGB (else BGR).

    Args:
        values: the whole config.
        problems: what cannot be honoured is added.
    """
    ours: dict[str, Any] = {"input.resize": "cv2", "input.pad_to_multiple": 1}
    model = values.get("model")
    is_rgb = True
    if isinstance(model, Mapping) and model.get("data_preprocessor") is not None:
        preprocessor = Section(model["data_preprocessor"], "model.data_preprocessor", problems)
        is_rgb = _read_preprocessor(preprocessor, ours)
    where, pipeline = _test_pipeline(values)
    steps = [Section(step, f"{where}[{i}]", problems) for i, step in enumerate(pipeline)]
    if not steps:
        problems.append(f"{where} (a pipeline for testing is needed: it says how pictures are resized)")
    is_version_3 = "input.pixel_mean" in ours
    for step in steps:
        is_rgb = _read_step(step, ours, is_rgb, is_version_3)
    if steps and "input.min_size_test" not in ours:
        problems.append(f"{where} (resizes nothing; here a Resize is needed)")
    if "input.pixel_mean" not in ours:
        problems.append("model.data_preprocessor (is needed: it says how pictures are normalised)")
    ours |= _training_sizes(values)
    return ours, is_rgb


def _read_preprocessor(section: Section, ours: dict[str, Any]) -> bool:
    name = section.name()
    if name not in ("DetDataPreprocessor", ""):
        section.refuse("type", name, "here DetDataPreprocessor")
    is_rgb = bool(section.take("bgr_to_rgb", False))
    section.only("rgb_to_bgr", False)
    section.only("pad_value", 0)
    _read_normalisation(section, ours, is_rgb)
    ours["input.pad_to_multiple"] = int(section.number("pad_size_divisor", 1))
    section.ignore("pad_mask", "mask_pad_value", "pad_seg", "seg_pad_value", "boxtype2tensor", "non_blocking")
    section.ignore("batch_augments")  # in training
    section.finish()
    return is_rgb


def _read_normalisation(section: Section, ours: dict[str, Any], is_rgb: bool) -> None:
    """Mean and deviation, which are in the order that the network sees."""
    for key in ("mean", "std"):
        numbers = section.numbers(key, 3, (0.0, 0.0, 0.0) if key == "mean" else (1.0, 1.0, 1.0))
        ours[f"input.pixel_{key}"] = numbers if is_rgb else numbers[::-1]


def _test_pipeline(values: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The steps of the pipeline for testing, those inside of test-time augmentation too, and where they stand."""
    for path in (
        ("test_dataloader", "dataset", "pipeline"),
        ("data", "test", "pipeline"),
        ("test_pipeline",),
        ("val_dataloader", "dataset", "pipeline"),
        ("data", "val", "pipeline"),
    ):
        steps: Any = values
        for key in path:
            steps = steps.get(key) if isinstance(steps, Mapping) else None
        if isinstance(steps, list | tuple) and steps:
            return ".".join(path), list(steps)
    return "test_pipeline", []


def _read_step(step: Section, ours: dict[str, Any], is_rgb: bool, is_version_3: bool) -> bool:
    """One step of the pipeline. Returns whether the network wants RGB, as far as is known then."""
    name = step.name()
    if name in READERS:
        step.only("imdecode_backend", "cv2", "pillow", "turbojpeg", "tifffile")
        step.only("color_type", "color")
        step.ignore("to_float32", "file_client_args", "backend_args", "ignore_empty")
    elif name == "MultiScaleFlipAug":
        is_rgb = _read_flip_aug(step, ours, is_rgb)
    elif name == "Resize":
        _read_resize(step, ours, keeps_ratio=not is_version_3)
    elif name == "Normalize" and not is_version_3:
        is_rgb = bool(step.take("to_rgb", True))
        _read_normalisation(step, ours, is_rgb)
    elif name == "Pad" and not is_version_3:
        step.only("size", None)
        step.only("pad_to_square", False)
        step.only("pad_val", 0, {"img": 0, "masks": 0, "seg": 255}, {"img": 0})
        ours["input.pad_to_multiple"] = int(step.number("size_divisor", 1))
        step.ignore("seg_pad_val", "padding_mode")
    elif name in HARMLESS:
        return is_rgb
    else:
        step.refuse("type", name, "unknown here")
        return is_rgb
    step.finish()
    return is_rgb


def _read_flip_aug(step: Section, ours: dict[str, Any], is_rgb: bool) -> bool:
    step.only("flip", False)
    step.only("scale_factor", None)
    step.ignore("flip_direction")
    if "img_scale" in step:
        _set_scale(step, "img_scale", ours)
    transforms = step.take("transforms", [])
    for i, inner in enumerate(transforms if isinstance(transforms, list | tuple) else []):
        inner_step = Section(inner, f"{step.path}.transforms[{i}]", step.problems)
        is_rgb = _read_step(inner_step, ours, is_rgb, is_version_3=False)
    return is_rgb


def _read_resize(step: Section, ours: dict[str, Any], keeps_ratio: bool) -> None:
    """keeps_ratio: where it does not say; version 2 does, version 3 does not."""
    if not step.take("keep_ratio", keeps_ratio):
        step.refuse("keep_ratio", False, "here true")
    step.only("interpolation", "bilinear")
    step.only("backend", "cv2")
    step.only("multiscale_mode", "range", "value")
    step.only("ratio_range", None)
    step.only("scale_factor", None)
    step.ignore("override", "clip_object_border", "bbox_clip_border")
    for key in ("scale", "img_scale"):
        if key in step:
            _set_scale(step, key, ours)


def _set_scale(step: Section, key: str, ours: dict[str, Any]) -> None:
    """(long, short) in either order; a list of one pair too. Several are test-time augmentation."""
    scale = as_lists(step.take(key))
    if isinstance(scale, list) and len(scale) == 1:
        (scale,) = scale
    if not is_numbers(scale) or len(scale) != 2 or not all(float(v).is_integer() for v in scale):
        step.refuse(key, scale, "here one pair of edges")
        return
    ours["input.min_size_test"], ours["input.max_size_test"] = int(min(scale)), int(max(scale))


def _training_sizes(values: Mapping[str, Any]) -> dict[str, Any]:
    """The shortest edges of training, where they are plainly written; detections do not depend on them."""
    pipeline = values.get("train_pipeline")
    for step in pipeline if isinstance(pipeline, list | tuple) else []:
        if isinstance(step, Mapping) and str(step.get("type", "")).rpartition(".")[2] in TRAINING_RESIZES:
            scales = as_lists(step.get("scale") or step.get("scales") or step.get("img_scale"))
            pairs = [scales] if is_numbers(scales) else scales if isinstance(scales, list) else []
            if pairs and all(is_numbers(pair) and len(pair) == 2 for pair in pairs):
                edges = sorted({int(min(pair)) for pair in pairs})
                return {"input.min_size_train": edges, "input.max_size_train": int(max(map(max, pairs)))}
    return {}
