"""Convert weights: another framework's into ours, which suffice alone, and ours into another framework's."""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from detector.categories import CategoryMap
from detector.errors import UserError
from detector.printing import log_to_screen

if TYPE_CHECKING:
    from detector.config import Config
    from detector.weights.files import WeightsFile

EXAMPLES = """examples:
  {program} output/theirs/model_final.pth mine.safetensors --config output/theirs/config.yaml
      a detectron2 Faster R-CNN (.pth or .pkl) with its own config; --annotations names its classes. Of a Mask or
      Keypoint R-CNN --boxes-only takes the box branch
  {program} R101-C4-3x r101.safetensors
      a published model, fetched into the cache folder (`models` lists the names)
  {program} work_dir/epoch_12.pth mine.safetensors
      a Faster R-CNN of mmdetection, by the config that the file carries; --config takes a dumped one in its place
  {program} fasterrcnn.pth mine.safetensors
      a state dict of torchvision's fasterrcnn_resnet50_fpn or _v2
  {program} R-50.pkl backbone.safetensors
      an ImageNet network (torchvision's or Caffe2's names) for model.backbone.weights
  {program} output/r50c4_bccd/model_best.safetensors theirs.pth --to detectron2
      a detectron2 checkpoint (.pth or .pkl) and theirs.yaml, its config; for what detectron2 has a counterpart for
  {program} output/quickstart/model_final.safetensors resnet.pth --to torchvision
      conv1 … conv5_x as a torchvision ResNet without fc: load_state_dict(torch.load(…), strict=False); of a model that
      came from torchvision's fasterrcnn_resnet50_fpn or _v2, or has all of its settings, the whole detector

Files of other frameworks are read without trusting them: what wants more than tensors is refused and not executed."""

ENDINGS = {"ours": (".safetensors",), "detectron2": (".pth", ".pkl"), "torchvision": (".pth",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("input", metavar="IN", help="a weights file, or a published name such as R101-C4-3x")
    parser.add_argument("output", metavar="OUT", type=Path, help="the file to write")
    parser.add_argument("--config", type=Path, help="detectron2's config.yaml, or a config of ours for other files")
    parser.add_argument("--boxes-only", action="store_true", help="of a Mask or Keypoint R-CNN, its box branch")
    parser.add_argument("--to", choices=tuple(ENDINGS), default="ours", help="(default: %(default)s)")
    parser.add_argument(
        "--annotations", type=Path, help="COCO JSON whose categories, in the order of their ids, name the classes"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of matrices and convolutions in our files; bfloat16 halves them (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Read, convert and write, and print what was written."""
    log_to_screen()
    check_output(args)

    from detector.inference.asked import check_asked

    check_asked([args.input], args.config)
    if args.annotations is not None and not args.annotations.is_file():
        raise UserError(f"{args.annotations}: there is no such file of annotations; check the path.")

    from detector.weights.resolve import resolve_weights

    weights = resolve_weights(args.input, args.config, args.boxes_only)
    if args.annotations is not None:
        weights = with_categories(weights, args.annotations)
    print(f"weights {args.input}: {describe(weights)}")
    for line in write(args, weights):
        print(line)
    return 0


def check_output(args: argparse.Namespace) -> None:
    """Raise UserError before any work where the output cannot be meant."""
    endings = ENDINGS[args.to]
    if args.output.suffix not in endings:
        raise UserError(f"{args.output}: --to {args.to} writes a file that ends with {' or '.join(endings)}.")
    if args.output.resolve() == Path(args.input).expanduser().resolve():
        raise UserError(f"{args.output}: the output would overwrite the input; choose another name.")
    if args.to != "ours" and args.dtype != "float32":
        raise UserError(f"--dtype {args.dtype}: is for our own files; leave it out with --to {args.to}.")


def with_categories(weights: WeightsFile, annotations: Path) -> WeightsFile:
    """The weights with the categories of a COCO file. Raises UserError where their number differs."""
    from detector.datasets.formats.coco import read_json

    content = read_json(annotations, "annotations")
    try:
        categories = CategoryMap.from_coco(content["categories"])
    except (TypeError, KeyError, ValueError):
        raise UserError(f"{annotations}: holds no COCO categories (a list of id and name).") from None
    if len(categories) != len(weights.categories):
        raise UserError(
            f"{annotations}: names {len(categories)} categories, but the weights have {len(weights.categories)}."
        )
    return replace(weights, categories=categories)


def write(args: argparse.Namespace, weights: WeightsFile) -> list[str]:
    """Write the output; returns lines that say what was written."""
    from detector.weights.files import save_weights
    from detector.weights.lineages.detectron2_export import write_detectron2

    state, config, categories = weights.state_dict, weights.config, weights.categories
    if args.to == "ours":
        save_weights(args.output, state, config, categories, weights.provenance, args.dtype)
        return [f"wrote {args.output}"]
    if args.to == "torchvision":
        return write_torchvision(args.output, weights)
    if len(categories) == 0:
        raise UserError(f"{args.input}: holds a backbone alone, and --to detectron2 writes detectors.")
    config, known = with_training_settings(args, config)
    config_path, lost = write_detectron2(args.output, state, config, categories)
    lines = [f"wrote {args.output} and {config_path}; {known}"]
    if lost:
        lines.append(f"of the training settings, detectron2 has no counterpart for {', '.join(lost)}")
    return lines


def write_torchvision(path: Path, weights: WeightsFile) -> list[str]:
    """Write a detector with torchvision's settings as its own model, and of others the ResNet; returns what to say."""
    import torch

    from detector.disk import write_atomically
    from detector.weights.lineages.torchvision_export import differing_settings, to_torchvision_pyramid
    from detector.weights.lineages.torchvision_resnet import to_torchvision_resnet

    state, config = weights.state_dict, weights.config
    backbone, differing = config.model.backbone, differing_settings(config)
    is_whole = len(weights.categories) > 0 and not differing
    file = io.BytesIO()
    torch.save(to_torchvision_pyramid(state, config) if is_whole else to_torchvision_resnet(state), file)
    write_atomically(path, file.getvalue())
    pixels = f"RGB pixels from 0 to 255 less {list(config.input.pixel_mean)} over {list(config.input.pixel_std)}"
    if is_whole:
        return [
            f"wrote {path}: {config.model.network} of torchvision.models.detection for {len(weights.categories) + 1} "
            f"classes, the background first, for {pixels}; epsilon of the backbone's norms {backbone.norm_eps:g}"
        ]
    lines = [
        f"wrote {path}: ResNet-{backbone.depth} without fc, for {pixels}, stride in the "
        f"{'1×1' if backbone.stride_in_1x1 else '3×3'}"
    ]
    if config.model.kind == "fpn" and len(weights.categories) > 0:
        lines.append(f"the backbone alone: torchvision's detector has no counterpart for {', '.join(differing)}")
    return lines


def with_training_settings(args: argparse.Namespace, config: Config) -> tuple[Config, str]:
    """The config with the settings of the run, which a weights file of ours does not carry, and where they are from."""
    from detector.weights.files import SUFFIX
    from detector.weights.run_config import read_run_config

    if args.config is not None or Path(args.input).suffix != SUFFIX:
        return config, "its training settings are those of the config"
    run = read_run_config(args.input)
    if run is None:
        return config, "how it was trained is not known here (no config.yaml beside it): its SOLVER is the default one"
    path, settings = run
    return replace(config, data=settings.data, train=settings.train), f"its training settings are those of {path}"


def describe(weights: WeightsFile) -> str:
    """One line: which network, how many tensors, which classes."""
    model, count = weights.config.model, len(weights.categories)
    network = model.network if count else model.network.rpartition("-")[0]
    names = ", ".join(weights.categories.names[:8]) + (", …" if count > 8 else "")
    classes = f"{count} classes ({names})" if count else "a backbone alone"
    return f"{network}, {len(weights.state_dict)} tensors, {classes}"
