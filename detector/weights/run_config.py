"""The settings of the run that made a weights file, from the run's own folder.

A weights file says what model it is and how pictures are fed to it, and nothing else: it may come from anybody, and
must not decide which files are read or written. Which data a model was trained beside is known where its run is.
"""

from pathlib import Path

from detector.config import CONFIG_FILE, Config, load_config


def find_run_config(weights: str | Path) -> Path | None:
    """The config of the run whose folder a weights file lies in, or None.

    It is `config.yaml` beside the file, as training leaves it beside `model_best.safetensors`; or, for the weights in a
    checkpoint, in the run's folder above `checkpoints/iteration_…/`.
    """
    folder = Path(weights).expanduser().parent
    candidates = [folder / CONFIG_FILE]
    if folder.parent.name == "checkpoints":
        candidates.append(folder.parent.parent / CONFIG_FILE)
    return next((path for path in candidates if path.is_file()), None)


def read_run_config(weights: str | Path) -> tuple[Path, Config] | None:
    """That config's path and its settings; None where there is none.

    Raises:
        ConfigError: there is one, and it cannot be read.
    """
    path = find_run_config(weights)
    return None if path is None else (path, load_config(path))
