"""Export a detector: trace it, write the file, run the file again, and only then give it its name."""

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from detector.categories import CategoryMap
from detector.config import Config, DetectionConfig, ModelConfig
from detector.disk import put_in_place, sync_file, whole_folder
from detector.errors import UserError
from detector.export.check import Comparison, check_sizes, compare
from detector.export.description import describe, smallest_side
from detector.export.export_network import ExportNetwork
from detector.export.formats import OPENVINO_FILES, RUNNERS, WRITERS, Format, format_of
from detector.export.program import trace
from detector.model.faster_rcnn import FasterRCNN

log = logging.getLogger(__name__)


def check_exportable(model: ModelConfig) -> None:
    """Raise UserError where a model does more than a file does: look once, score each region by itself once; NMS."""
    if model.roi.global_context:
        raise UserError("model.roi.global_context=true is not exported; train without it to export.")
    plain = DetectionConfig()
    names = ("merge", "voting_threshold", "refine_passes")
    changed = [name for name in names if getattr(model.detection, name) != getattr(plain, name)]
    if changed:
        set_to, wanted = (
            " ".join(f"model.detection.{name}={to_word(getattr(settings, name))}" for name in changed)
            for settings in (model.detection, plain)
        )
        raise UserError(f"{set_to}: this is not exported; give {wanted} to export without it.")
    if model.detection.augment.form is not None:
        raise UserError(
            f"model.detection.augment.form={model.detection.augment.form}: a file looks once at each picture; give "
            "model.detection.augment.form=null to export without test-time augmentation."
        )


def to_word(value: object) -> str:
    """A setting's value as the command line has it."""
    return "null" if value is None else str(value)


@dataclass(frozen=True)
class Exported:
    """What was exported.

    kind: its format. size: bytes of the file or folder. seconds: that writing took, and the check. comparison: with the
    network itself; where `comparison.differences` names any, nothing was written.
    """

    path: Path
    kind: Format
    size: int
    seconds: tuple[float, float]
    comparison: Comparison


def export(
    model: FasterRCNN, config: Config, categories: CategoryMap, provenance: Mapping[str, Any], path: Path
) -> Exported:
    """Write the network in the format that the path's name asks for, if the file finds what the network finds.

    It takes minutes on one core, most of them the check's: what begins is logged, with the seconds since the start.

    Args:
        model: not fused.
        config, categories, provenance: the file says what a client needs of them.
        path: a file .onnx or .pt2, or a folder for OpenVINO.

    Raises:
        UserError: there is no such format, a package is missing, or the file cannot be written; or the network does
            what no file does.
    """
    kind = format_of(path)
    check_place(path)
    check_exportable(config.model)
    model = model.eval()
    side = smallest_side(model)
    started = time.perf_counter()

    def tell(what: str) -> None:
        log.info("%4.0f s   %s", time.perf_counter() - started, what)

    tell("tracing the network")
    program = trace(ExportNetwork(model, config.input.pad_to_multiple), side)
    facts = describe(config, categories, provenance, side)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as folder:
            written = Path(folder, path.name)
            tell(f"writing {kind}")
            WRITERS[kind](program, facts, written)
            del program
            middle = time.perf_counter()
            tell("reading what was written")
            runner = RUNNERS[kind](written)
            sizes = check_sizes(config.input, side)
            comparison = compare(model, runner, sizes, config.input.pad_to_multiple, tell)
            del runner  # before its file goes elsewhere
            files = sorted(written.iterdir()) if written.is_dir() else [written]
            size = sum(file.stat().st_size for file in files)
            if not comparison.differences:
                _hand_over(written, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}).") from None
    return Exported(path, kind, size, (middle - started, time.perf_counter() - middle), comparison)


def check_place(path: Path) -> None:
    """Raise UserError where something else would be replaced: a folder that holds more than an earlier export."""
    if path.is_dir() and not {entry.name for entry in path.iterdir()} <= OPENVINO_FILES:
        raise UserError(f"{path}: holds other files; name a new folder for OpenVINO's.")


def _hand_over(written: Path, path: Path) -> None:
    """Give what was written and checked its final name. Raises OSError."""
    if not written.is_dir():
        sync_file(written)
        put_in_place(written, path)
        return
    with whole_folder(path) as folder:
        for file in written.iterdir():
            shutil.copy2(file, folder)
