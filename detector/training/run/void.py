"""Settings that have no effect in a run, because of other settings."""

from collections.abc import Iterator

from detector.config import Config, ModelConfig, TrainConfig, config_to_dict, flatten

COLOURS = ("brightness", "contrast", "saturation", "hue")
Void = tuple[tuple[str, ...], str]


def void_settings(config: Config, has_val: bool) -> list[str]:
    """One line for each reason why settings have no effect, naming those that somebody has set: `key=value: reason`.

    Settings at their defaults, which nobody asked for, are left out, except milestones that will never be reached.

    Args:
        config: of the run.
        has_val: whether there is a val split.
    """
    values, defaults = flatten(config_to_dict(config)), flatten(config_to_dict(Config()))
    lines = []
    for keys, reason in _void(config, has_val):
        changed = [f"{key}={values[key]}" for key in keys if values[key] != defaults[key]]
        if changed:
            lines.append(f"{', '.join(changed)}: {reason}.")
    train = config.train
    if train.schedule == "steps" and train.milestones and train.milestones[-1] >= train.iterations:
        late = [milestone for milestone in train.milestones if milestone >= train.iterations]
        lines.append(f"train.milestones={late}: not before the end (train.iterations={train.iterations}).")
    return lines


def _void(config: Config, has_val: bool) -> Iterator[Void]:
    """Settings that something makes void, whether or not they are set, and what it is."""
    yield from _void_in_training(config.train)
    if not has_val:
        scoring = ("evaluate_every", "validation_loss", "patience", "sample_pictures")
        yield tuple(f"train.{name}" for name in scoring), "there is no val split"
    if config.data.val_annotations is not None:
        yield ("data.hold_out", "data.hold_out_seed"), "there is a val split"
    augment, model = config.data.augment, config.model
    if augment.crop == 0:
        yield ("data.augment.crop_min_scale",), "data.augment.crop is 0"
    elif augment.crop_min_scale == 1:
        yield ("data.augment.crop",), "data.augment.crop_min_scale=1 leaves nothing to cut off"
    if augment.color_jitter == 0:
        yield tuple(f"data.augment.{name}" for name in COLOURS), "data.augment.color_jitter is 0"
    elif not any(getattr(augment, name) for name in COLOURS):
        yield ("data.augment.color_jitter",), "brightness, contrast, saturation and hue are 0"
    if model.weights:
        yield ("model.backbone.weights",), "model.weights has the backbone too"
    if model.weights or not model.backbone.weights:
        yield ("model.backbone.weights_channels",), "it is about the file of model.backbone.weights, which is not read"
    if _norms(model) == {"frozen_batch"}:
        yield ("train.norm_weight_decay",), "all norms are constants"
    yield from _void_in_model(model)
    if model.roi.pooling == "pool":
        yield ("model.roi.sampling_ratio", "model.roi.aligned"), "model.roi.pooling=pool takes no samples"


def _norms(model: ModelConfig) -> set[str]:
    norms: set[str] = {model.backbone.norm, model.backbone.conv5_norm or model.backbone.norm}
    if model.kind == "fpn" and model.fpn.norm is not None:
        norms.add(model.fpn.norm)
    if model.kind != "c4" and model.roi.conv_layers > 0 and model.roi.conv_norm is not None:
        norms.add(model.roi.conv_norm)
    return norms


def _void_in_model(model: ModelConfig) -> Iterator[Void]:
    """Settings of one kind of model under another, and of what is trained and then not used."""
    if model.roi.train_refinement and model.detection.refine_passes == 0:
        yield ("model.roi.train_refinement",), "the head will not look again (model.detection.refine_passes is 0)"
    if model.kind == "c4":
        layers = ("conv_layers", "conv_channels", "conv_norm", "fc_layers", "fc_channels")
        yield tuple(f"model.roi.{name}" for name in layers), "model.kind=c4 has conv5_x on every RoI"
    elif model.roi.conv_layers == 0:
        yield ("model.roi.conv_channels", "model.roi.conv_norm"), "model.roi.conv_layers is 0"
    if model.kind != "c4" and model.roi.fc_layers == 0:
        yield ("model.roi.fc_channels",), "model.roi.fc_layers is 0"
    if model.kind != "fpn":
        pyramid = ("model.fpn.channels", "model.fpn.norm", "model.rpn.anchor_strides", "model.roi.level_rule")
        yield pyramid, f"model.kind={model.kind} has one feature map"
    if model.backbone.depth < 50:
        bottleneck = tuple(f"model.backbone.{name}" for name in ("groups", "width_per_group"))
        yield bottleneck, f"model.backbone.depth={model.backbone.depth} has no bottlenecks"


def _void_in_training(train: TrainConfig) -> Iterator[Void]:
    if train.schedule == "cosine":
        yield ("train.milestones", "train.gamma"), "train.schedule=cosine has no milestones"
    elif not any(milestone < train.iterations for milestone in train.milestones):
        yield ("train.gamma",), "no milestone comes before the end"
    if train.warmup_iterations == 0:
        yield ("train.warmup_factor",), "train.warmup_iterations is 0"
    if train.evaluate_every >= train.iterations:
        yield ("train.evaluate_every",), f"the run ends at iteration {train.iterations}, and is evaluated then anyway"
    if train.save_every >= train.iterations:
        yield ("train.save_every",), f"the run ends at iteration {train.iterations}, and is saved then anyway"
    evaluations = -(-train.iterations // train.evaluate_every) if train.evaluate_every else 1
    if train.patience is not None and train.patience >= evaluations:
        # One of them at least is a gain, so as many without one never come.
        only = "is only 1 evaluation" if evaluations == 1 else f"are only {evaluations} evaluations"
        yield ("train.patience",), f"there {only}"
