"""The command `faster-rcnn`: which command is meant, its words, and how it ends."""

import argparse
import difflib
import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from detector import command
from detector.errors import UserError, one_line
from detector.version import __version__

COMMANDS = {
    "train": "train a detector, score it, and show what it finds",
    "predict": "detect objects in pictures: tables, annotated pictures, detections.json",
    "evaluate": "COCO mAP of a model, or of a file of detections",
    "report": "show where a model is wrong: one HTML page from detections and annotations",
    "serve": "serve a model: a page to drop pictures on, and an API",
    "check-data": "find the faults of annotated pictures, and fix what needs no decision",
    "convert-data": "convert annotations among COCO, Pascal VOC and YOLO",
    "convert-weights": "convert weights from and to other frameworks",
    "export": "write a trained detector as ONNX, PyTorch's .pt2 or for OpenVINO",
    "get-data": "fetch a public data set: COCO, Pascal VOC, blood cells",
    "models": "list the published weights by name, and which of them are cached",
    "doctor": "check this installation",
    "benchmark": "measure speed and memory (in a clone of the repository)",
}


def faster_rcnn() -> NoReturn:
    """Run the installed command, or `python -m detector`, with the words of the command line, and exit."""
    is_module = Path(sys.argv[0]).name == "__main__.py"
    command.run(lambda: main(sys.argv[1:], "python -m detector" if is_module else "faster-rcnn"))


def tool(name: str) -> NoReturn:
    """Run one command as the script that was started, such as `tools/train_net.py`, and exit."""
    script = sys.argv[0]
    command.run(lambda: call(name, sys.argv[1:], f"python {script}", script))


def main(words: Sequence[str], program: str = "faster-rcnn") -> int:
    """Call the command that the first word names.

    Args:
        words: of the command line.
        program: the name by which it was called.

    Returns:
        The exit code.

    Raises:
        UserError: there is no such command, or the command cannot do what it was asked for.
    """
    if not words or words[0] in ("-h", "--help"):
        print(overview(program))
        return 0
    if words[0] == "--version":
        print(f"faster-rcnn {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(COMMANDS)}."
        raise UserError(f"{program}: there is no command {one_line(name, limit=40)!r}; {hint}")
    return call(name, words[1:], f"{program} {name}", f"-m detector {name}")


def call(name: str, words: Sequence[str], program: str, launched: str) -> int:
    """Parse the words of one command and run it.

    Args:
        name: one of COMMANDS.
        words: what follows the command's name.
        program: the name by which it was called, for usage and examples.
        launched: what torchrun is given to start it.

    Returns:
        The exit code.
    """
    module = importlib.import_module(f"detector.commands.{name.replace('-', '_')}")
    if name == "benchmark":  # its words are those of a script outside the package
        return int(module.run(words))
    parser = _Parser(
        prog=program,
        description=module.__doc__,
        epilog=module.EXAMPLES.format(program=program, launched=launched),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    if name in ("predict", "evaluate"):  # which take several weights
        from detector.weights.published.catalogue import looks_like_weights

        words = command.spread(words, "--weights", looks_like_weights)
    return int(module.run(parser.parse_intermixed_args(words)))  # words may stand before and after options


class _Parser(argparse.ArgumentParser):
    """A parser whose refusal of a setting that is written as an option says how settings are written."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit with 2."""
        option = re.search(r"arguments: --?([\w.-]+)", message)
        if option and any(action.dest == "settings" for action in self._actions):
            message += f" (settings are written without dashes: {option.group(1).replace('-', '_')}=…)"
        elif option and option.group(1) == "data" and any(action.dest == "annotations" for action in self._actions):
            message += " (it is written without dashes: data=…)"
        super().error(message)


def overview(program: str) -> str:
    """The help of the command as a whole."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    return (
        f"usage: {program} COMMAND …\n\nFaster R-CNN: train, predict, evaluate.\n\ncommands:\n{listed}\n\n"
        f"`{program} COMMAND --help` shows the words of a command, with examples. "
        f"Without words,\n`{program} train` trains a small detector on pictures that it renders itself."
    )
