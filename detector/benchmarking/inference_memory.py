"""One form's peak memory; run as a module with its arguments as JSON, by `inference`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from detector.benchmarking.forms import EAGER, FAST, FAST_BFLOAT16, PEER_BFLOAT16, Run, prepare
from detector.benchmarking.memory import Memory, measure
from detector.benchmarking.peer import build_pair
from detector.benchmarking.pictures import load_picture, smaller, variants


def main(arguments: dict[str, Any]) -> Memory:
    """Build, then measure two calls: the first may choose kernels."""
    torch.set_num_threads(1)
    device = torch.device(arguments["device"])
    run = _build(arguments, device)

    def twice() -> None:
        run()
        run()

    return measure(twice, device)


def _build(arguments: dict[str, Any], device: torch.device) -> Run:
    """The form alone: what the other network takes is given back."""
    form = next(f for f in (EAGER, PEER_BFLOAT16, FAST, FAST_BFLOAT16) if f.name == arguments["form"])
    size = (int(arguments["size"][0]), int(arguments["size"][1]))
    picture = arguments["picture"]
    pixels = variants(load_picture(None if picture is None else Path(picture), size), 1)
    depth, num_classes, proposals = (arguments[key] for key in ("depth", "num_classes", "proposals"))
    pair = build_pair(smaller(pixels[0]), size, depth, num_classes, proposals)
    return prepare(form, pair, pixels, device)


if __name__ == "__main__":
    print(json.dumps(vars(main(json.loads(sys.argv[1])))))
