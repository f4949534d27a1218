"""Training state on disk: a checkpoint that can be seen is complete, and what is not complete is never chosen.

A checkpoint is a folder `iteration_0000500` of safetensors and JSON, so reading it runs no code of its maker:

    model.safetensors      the weights, with categories: `detector.load` takes it too
    averaged.safetensors   the moving average of the weights, where there is one
    momentum.safetensors   the optimizer's buffers by parameter name
    progress.json          every setting, where the run stands, the losses since the last line of the log, the states of
                           the random generators, float16's loss scale, and what identifies the annotations
    manifest.json          SHA-256 of every other file, written last
    evaluation.json        what is known since the evaluation of this iteration, which comes after the checkpoint: the
                           best AP so far and when it was; with its own checksum

It is written under another name, forced onto the disk and renamed. The position in the data order and the learning rate
are functions of the iteration, so they are not stored.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from detector.categories import CategoryMap
from detector.config import Config, config_from_dict, config_to_dict
from detector.datasets.fingerprint import Fingerprint
from detector.disk import file_digest, tells_damage, whole_folder, write_atomically, write_synced
from detector.errors import UserError, one_line, shown
from detector.training.loss_scale import LossScale, read_loss_scale
from detector.training.state.checkpoint_names import checkpoint_name
from detector.training.state.progress import Progress, read_progress
from detector.weights.files import read_weights, read_whole_config, save_weights
from detector.weights.untrusted.safetensors_file import open_safetensors

FORMAT_VERSION = 1
MODEL, AVERAGED, MOMENTUM = "model.safetensors", "averaged.safetensors", "momentum.safetensors"
PROGRESS, MANIFEST, EVALUATED = "progress.json", "manifest.json", "evaluation.json"
OF_EVALUATION = ("evaluated_iteration", "best_iteration", "best_ap", "evaluations_without_gain")  # in Progress


class CheckpointError(UserError):
    """A checkpoint could not be written, or is not whole."""


@dataclass
class TrainingState:
    """Everything that a resumed run needs. Tensors are named as in the model's state dict.

    world_size: how many processes the run had. unreported: what `Meter.state` returned. annotations: what identifies
    the data, by split; empty where an earlier version wrote the checkpoint. loss_scale: of a run in float16.
    """

    config: Config
    categories: CategoryMap
    world_size: int
    progress: Progress
    model: dict[str, Tensor]
    averaged: dict[str, Tensor] | None = None
    momentum: dict[str, Tensor] = field(default_factory=dict)
    random: dict[str, Any] = field(default_factory=dict)
    unreported: list[dict[str, Any]] = field(default_factory=list)
    annotations: dict[str, Fingerprint] = field(default_factory=dict)
    loss_scale: LossScale | None = None


def save_checkpoint(folder: Path, state: TrainingState) -> Path:
    """Write the state as `folder/iteration_NNNNNNN`; one that is there already and whole is kept as it is.

    Raises:
        CheckpointError: it could not be written; nothing that was there before is changed.
    """
    final = folder / checkpoint_name(state.progress.iteration)
    try:
        if final.exists() and is_whole(final):
            return final
        with whole_folder(final) as partial:
            _write_files(partial, state)
    except OSError as error:
        raise CheckpointError(f"{final}: cannot write the checkpoint ({error.strerror or error}).") from None
    except UserError as error:
        raise CheckpointError(f"{final}: cannot write the checkpoint ({error})") from None
    return final


def save_evaluation(folder: Path, progress: Progress) -> None:
    """Add what an evaluation has changed to the checkpoint of the same iteration, if there is one.

    So a run that goes on from there, for longer perhaps, knows its best model and does not score this one again.

    Raises:
        UserError: it could not be written; the checkpoint is as it was.
    """
    path = folder / checkpoint_name(progress.iteration)
    if path.is_dir():
        changed = {name: getattr(progress, name) for name in OF_EVALUATION}
        content = {"progress": changed, "sha256": _digest_of(changed)}
        write_atomically(path / EVALUATED, json.dumps(content, allow_nan=False).encode())


def load_checkpoint(path: Path) -> TrainingState:
    """Read a checkpoint's folder after comparing every file with the manifest.

    Raises:
        CheckpointError: it is not whole.
        UserError: it may not be read, or it is whole, but of another version of this program.
    """
    problem = find_damage(path)
    if problem:
        raise CheckpointError(f"{path}: {problem}.")
    weights = read_weights(path / MODEL, compare=False)
    try:
        stored = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        if stored["format"] != FORMAT_VERSION:
            raise UserError(
                f"{path}: format {shown(stored['format'])} of our checkpoints is unknown here (this version reads "
                f"{FORMAT_VERSION}); use the version that wrote it."
            )
        return TrainingState(
            config=_read_config(path, stored),
            categories=weights.categories,
            world_size=int(stored["world_size"]),
            progress=read_progress(stored["progress"] | _read_evaluation(path)),
            model=weights.state_dict,
            averaged=_read_averaged(path / AVERAGED),
            momentum=_read_tensors(path / MOMENTUM),
            random=dict(stored["random"]),
            # Absent where an earlier version wrote it.
            unreported=list(stored.get("unreported", ())),
            annotations={k: Fingerprint.from_dict(v) for k, v in stored.get("annotations", {}).items()},
            loss_scale=read_loss_scale(stored.get("loss_scale")),
        )
    except UserError:
        raise
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({one_line(repr(error))}).") from None


def read_settings(path: Path) -> Config | None:
    """Every setting of the run that wrote a checkpoint; None where it does not say them, or is damaged."""
    try:
        stored = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        return _read_config(path, stored)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # UserError is a ValueError
        return None


def is_whole(path: Path) -> bool:
    """Whether every file is there and has the content it was written with. Raises UserError as `find_damage`."""
    return find_damage(path) is None


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, in words; None for a whole one.

    Raises:
        UserError: they may not be read, which says nothing about them.
    """
    try:
        sums = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        if not {MODEL, MOMENTUM, PROGRESS} <= sums.keys():
            return "its manifest lacks files that belong to a checkpoint"
        for name, expected in sums.items():
            if file_digest(path / Path(name).name) != expected:
                return f"{name} does not match its checksum"
        if (path / EVALUATED).exists() and not _read_evaluation(path):
            return f"{EVALUATED} does not match its checksum"
    except OSError as error:
        if not tells_damage(error):
            raise UserError(
                f"{error.filename or path}: cannot be read ({error.strerror or error}), and may be whole; make it "
                "readable and try again, or delete the checkpoint."
            ) from None
        return f"{Path(error.filename or MANIFEST).name} is missing or cannot be read"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "its manifest cannot be read"
    return None


def _write_files(partial: Path, state: TrainingState) -> None:
    provenance = {"iteration": state.progress.iteration}
    save_weights(partial / MODEL, state.model, state.config, state.categories, provenance)
    if state.averaged is not None:
        save_weights(partial / AVERAGED, state.averaged, state.config, state.categories, provenance)
    momentum = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in state.momentum.items()}
    write_synced(partial / MOMENTUM, save(momentum))
    progress = {
        "format": FORMAT_VERSION,
        "world_size": state.world_size,
        "config": config_to_dict(state.config),
        "progress": asdict(state.progress),
        "random": state.random,
        "unreported": state.unreported,
        "loss_scale": None if state.loss_scale is None else asdict(state.loss_scale),
        "annotations": {split: fingerprint.to_dict() for split, fingerprint in state.annotations.items()},
    }
    write_synced(partial / PROGRESS, json.dumps(progress, allow_nan=False).encode())
    sums = {p.name: file_digest(p) for p in sorted(partial.iterdir())}
    write_synced(partial / MANIFEST, json.dumps({"sha256": sums}, indent=1).encode())


def _read_evaluation(path: Path) -> dict[str, Any]:
    """What `save_evaluation` added to a checkpoint; nothing where it did not, or where that is damaged."""
    try:
        content = json.loads((path / EVALUATED).read_text(encoding="utf-8"))
        changed: dict[str, Any] = content["progress"]
        whole = changed.keys() == set(OF_EVALUATION) and content["sha256"] == _digest_of(changed)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return changed if whole else {}


def _digest_of(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _read_config(path: Path, stored: dict[str, Any]) -> Config:
    # Earlier versions stored the settings with the weights.
    return config_from_dict(stored["config"], str(path)) if "config" in stored else read_whole_config(path / MODEL)


def _read_averaged(path: Path) -> dict[str, Tensor] | None:
    return read_weights(path, compare=False).state_dict if path.is_file() else None


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with open_safetensors(path) as file:
            return file.tensors()
    except UserError as error:
        raise CheckpointError(str(error)) from None
