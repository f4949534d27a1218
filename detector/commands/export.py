"""Write a trained detector as a file that other programs run, and run that file before calling it done."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detector.errors import UserError
from detector.printing import log_to_screen, printable

EXIT_DIFFERENT = 1

EXAMPLES = """examples:
  {program} --weights output/mine/model_best.safetensors model.onnx
      for onnxruntime and others; examples/onnx_client.py runs it with numpy and OpenCV alone
  {program} --weights R101-C4-3x model.pt2
      PyTorch's own format: torch.export.load, after import torchvision
  {program} --weights output/mine/model_best.safetensors openvino/
      a folder for OpenVINO (pip install openvino)
  {program} --weights model_final.pth --config config.yaml model.onnx input.min_size_test=600
      another framework's checkpoint, with a setting changed

The file takes one picture of any height and width, [1, 3, H, W] float32 RGB from 0 to 255, resized as its metadata say,
and gives boxes, scores and labels. It is run on four sizes, with no, one and many detections, beside the network
itself: the same labels, boxes within 0.05 pixel, scores within 0.0001. The exit code is 0, 1 where they differ (nothing
is written then), or 2 where something given could not be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("output", metavar="OUT", help="a file .onnx or .pt2, or a folder, openvino/")
    parser.add_argument(
        "--weights", required=True, help="a .safetensors, a published name, or another framework's file with --config"
    )
    parser.add_argument("--config", help="config of another framework's weights")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the weights' config to change")


def run(args: argparse.Namespace) -> int:
    """Export, check, and print what came of it; returns the exit code."""
    from detector.inference.asked import check_asked

    check_asked([args.weights], args.config, args.settings)

    from detector.export.exporting import check_place
    from detector.export.formats import format_of
    from detector.inference.load import load

    log_to_screen()
    output = Path(args.output)
    if output.suffix == "" and not args.output.endswith("/") and not output.is_dir():
        raise UserError(f"{output}: name a file that ends with .onnx or .pt2, or a folder, openvino/, for OpenVINO.")
    kind = format_of(output)
    check_place(output)
    predictor = load(args.weights, args.config, "cpu", args.settings, fast=False)
    print(f"weights  {printable(args.weights)}\noutput   {printable(output)} ({kind}); this takes minutes")
    sys.stdout.flush()
    exported = predictor.export(output)
    comparison, (writing, checking) = exported.comparison, exported.seconds
    passes, counts = len(comparison.counts), comparison.counts
    print(f"checked  {passes} passes on 4 sizes, {min(counts)} to {max(counts)} detections each, in {checking:.0f} s")
    if comparison.differences:
        print("error: the exported file finds something else than the network; it was not written:", file=sys.stderr)
        print(*comparison.differences, sep="\n", file=sys.stderr)
        return EXIT_DIFFERENT
    box, score = comparison.worst_box, comparison.worst_score
    print(f"agrees   the same labels, boxes within {box:.4f} px, scores within {score:.1e}")
    print(f"wrote    {printable(output)}, {exported.size / 1e6:.1f} MB, in {writing:.0f} s")
    return 0
