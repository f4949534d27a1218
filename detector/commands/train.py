"""Train a detector, score it, and show what it finds."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.command import add_device_argument, is_first_process
from detector.config import CONFIG_FILE, Config
from detector.config.recipes import find_config, recipe_folder
from detector.errors import UserError

if TYPE_CHECKING:
    from detector.training.configure import Configured

EXAMPLES = """examples:
  {program} data=FOLDER epochs=12
      train on your own pictures: a Roboflow export, an ultralytics tree (or its data.yaml), COCO, Pascal VOC, or a
      folder of pictures with their annotations; what was understood is printed first
  {program}
      train the small detector of the recipe quickstart on the embedded pictures: minutes on a CPU
  {program} --config r50c4_bccd --output output/cells train.batch_size=4
      another recipe, with one of its settings changed
  {program} --output output/cells --resume
      go on after an interruption (Ctrl-C, SIGTERM, a lost machine), with the same settings
  torchrun --nproc-per-node=8 {launched} --config r101c4_coco_3x --resume
      eight GPUs; a step has train.batch_size pictures in all

exit codes: 0 finished; 2 something you can fix, said in one sentence; 130, 143, 138 stopped by SIGINT, SIGTERM or
SIGUSR1 after saving (a second signal ends it at once); 1 our own failure."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument(
        "--config",
        type=Path,
        help="YAML file of settings, or a recipe's name such as r50c4_bccd (default: a recipe fitted to "
        "data=FOLDER; without data, quickstart)",
    )
    parser.add_argument("--output", type=Path, help="folder for everything (default: output/<name of the config>)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest whole checkpoint in --output")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier run in --output and start again")
    parser.add_argument(
        "--explain", action="store_true", help="print how data=FOLDER is understood, each choice with its reason; stop"
    )
    parser.add_argument("--weights", help="start from this detector: a .safetensors file or a published name")
    add_device_argument(parser)
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="key=value",
        help="data=FOLDER to train on, and settings to change: train.iterations=500; short: epochs= batch= lr= imgsz=",
    )


def choose_config(
    config: str | Path | None,
    output: Path | None,
    settings: Sequence[str] | Mapping[str, Any],
    resume: bool,
    device: str = "auto",
) -> tuple[Configured, Path]:
    """The config with its overrides, and the output folder.

    A run that is resumed without a config goes on with the settings that its folder holds.

    Args:
        config: a file or a recipe's name.
        output: the folder, None: one below `output/` with the name of the data's folder or of the config.
        settings: words of the command line, or values by their names.
        resume: whether a run is to go on.
        device: that will train; a recipe is fitted to it too.
    """
    from detector.training.configure import configure

    path = recipe_folder() / "quickstart.yaml" if config is None else find_config(config)
    if isinstance(settings, Mapping):
        data = settings.get("data")
    else:
        data = next((word.removeprefix("data=") for word in settings if word.startswith("data=")), None)
    name = path.stem if data is None or config is not None else folder_name(str(data))
    output = output or Path("output") / name
    if resume and config is None and has_settings(output):
        return configure(output / CONFIG_FILE, settings, is_resumed_config=True), output
    return configure(None if data is not None and config is None else path, settings, device=device), output


def has_settings(output: Path) -> bool:
    """Whether a run's folder says the settings of its run. A config that is gone is written again from a checkpoint."""
    path = output / CONFIG_FILE
    if path.is_file() and path.stat().st_size:
        return True

    from detector.training.run.resume import restore_config

    return restore_config(output)


def folder_name(data: str) -> str:
    """The name of the folder that `data=…` names, or of the one around the file that it names."""
    path = Path(data).expanduser().absolute()
    return (path if path.is_dir() else path.parent).name or "data"


def run(arguments: argparse.Namespace) -> int:
    """Train until the run is finished or stopped. Returns the exit code."""
    # torchrun starts the same command again after a failure: that start goes on, whatever the first one was to do.
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    resume = arguments.resume or restarted
    if arguments.weights is not None and not arguments.weights.strip():
        raise UserError("--weights names nothing; give a file or a published name, or leave it out to start without.")
    settings = [*arguments.settings, *([f"model.weights={arguments.weights}"] if arguments.weights else [])]
    configured, output = choose_config(arguments.config, arguments.output, settings, resume, arguments.device)
    config = configured.config
    check_before_start(config, resume)
    if arguments.explain:
        print(*explain_lines(configured, output), sep="\n")
        return 0
    if is_first_process():
        print(*configured.notes, sep="\n", end="\n" if configured.notes else "", flush=True)

    from detector.training.engine import train
    from detector.training.process.signals import exit_code

    outcome = train(config, output, resume, arguments.overwrite and not restarted, arguments.device)
    return exit_code(outcome.stopped_by) if outcome.stopped_by else 0


def explain_lines(configured: Configured, output: Path) -> tuple[str, ...]:
    """How the data are understood, each choice with its reason, and where the run would go."""
    return (*(configured.notes or ["every setting is the config's own"]), f"output folder: {output}")


def check_before_start(config: Config, resume: bool) -> None:
    """Raise UserError for what would stop a run, before anything takes time.

    One that goes on has its weights in its checkpoint: the files that it began from may be gone.
    """
    check_paths(config, with_weights=not resume)

    from detector.training.report.trackers import check_installed
    from detector.training.run.start import check_names, check_start

    check_installed(config.train.trackers)
    check_names(config)

    if not resume:
        check_start(config.model)
        check_weights(config)


def check_paths(config: Config, with_weights: bool) -> None:
    """Raise UserError for data, and weights, that are not there: now, and not when much is rendered and read."""
    from detector.datasets.splits import missing_paths
    from detector.weights.published.catalogue import find_weights

    for weights in (config.model.weights, config.model.backbone.weights):
        if weights is not None and with_weights:
            find_weights(weights)
    if config.data.generate is not None:
        return
    missing = missing_paths(config.data)
    if missing:
        raise UserError(f"{missing[0]}: no such file or folder; check the path, or fetch the data.")


def check_weights(config: Config) -> None:
    """Raise UserError for weights that cannot be used, where pictures would be rendered for a minute before."""
    from detector.weights.backbone_weights import resolve_backbone
    from detector.weights.resolve import resolve_weights

    if config.data.generate is None:
        return
    if config.model.weights is not None:
        resolve_weights(config.model.weights)
    elif config.model.backbone.weights is not None:
        resolve_backbone(config)
