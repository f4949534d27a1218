"""The formats of exported files: how each is written, and how it is read and run again for the check."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.export import ExportedProgram

from detector.errors import UserError
from detector.export.description import KEY, as_text
from detector.export.program import quietly

Format = Literal["onnx", "pt2", "openvino"]
Outputs = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes [D, 4], scores [D], labels [D]
Runner = Callable[[np.ndarray, float], Outputs]  # an image [1, 3, H, W] and a score threshold to those

INPUTS = ("image", "score_threshold")
OUTPUTS = ("boxes", "scores", "labels")
FACTS_FILE = "metadata.json"  # in a .pt2, and in OpenVINO's folder
OPENVINO_FILES = {"model.xml", "model.bin", FACTS_FILE}
_NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": (), "openvino": ("openvino", "onnx", "onnxscript")}


def format_of(path: Path) -> Format:
    """The format that an output's name asks for: by its suffix; a name without one is a folder, OpenVINO's.

    Raises:
        UserError: another suffix; or packages that the format needs are not installed.
    """
    kinds: dict[str, Format] = {".onnx": "onnx", ".pt2": "pt2"}
    is_folder = path.is_dir() or not path.suffix
    kind: Format | None = "openvino" if is_folder else kinds.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: name a file that ends with .onnx or .pt2, or a folder, openvino/, for OpenVINO.")
    missing = [name for name in _NEEDED[kind] if importlib.util.find_spec(name) is None]
    if missing:
        extra = "'faster-rcnn[export]'" if kind == "onnx" else "'faster-rcnn[export]' openvino"
        raise UserError(f"{path}: needs {' and '.join(missing)}; run `pip install {extra}`.")
    return kind


def write_onnx(program: ExportedProgram, facts: Mapping[str, Any], path: Path) -> None:
    """Write an ONNX file, weights inside; score_threshold may be left out, and is the model's then. Raises OSError."""
    import onnx

    model = to_onnx(program, facts)
    default = onnx.numpy_helper.from_array(np.array(facts["score_threshold"], np.float32), "score_threshold")
    model.graph.initializer.append(default)
    path.write_bytes(model.SerializeToString())


def to_onnx(program: ExportedProgram, facts: Mapping[str, Any]) -> Any:
    """The program as an ONNX `ModelProto`, with the facts in its metadata."""
    with quietly():
        exported = torch.onnx.export(
            program, dynamo=True, input_names=INPUTS, output_names=OUTPUTS, verbose=False, external_data=False
        )
    assert exported is not None
    model = exported.model_proto
    entries = {KEY: as_text(facts), "names": as_text({str(n): name for n, name in enumerate(facts["names"], start=1)})}
    for key, value in entries.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    model.producer_name, model.producer_version = "faster-rcnn", facts["written_by"].split()[-1]
    return model


def run_onnx(path: Path) -> Runner:
    """The file in onnxruntime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def call(image: np.ndarray, score_threshold: float) -> Outputs:
        boxes, scores, labels = session.run(
            list(OUTPUTS), {"image": image, "score_threshold": np.array(score_threshold, np.float32)}
        )
        return boxes, scores, labels

    return call


def write_pt2(program: ExportedProgram, facts: Mapping[str, Any], path: Path) -> None:
    """Write PyTorch's exported program, with the facts as metadata.json inside. Raises OSError."""
    data = io.BytesIO()
    with quietly():
        torch.export.save(program, data, extra_files={FACTS_FILE: as_text(facts)})
    path.write_bytes(data.getvalue())


def run_pt2(path: Path) -> Runner:
    """The file in PyTorch, without this package's classes; the operators are torch's and torchvision's."""
    import torchvision  # noqa: F401 -- whose operators the program calls

    with quietly():
        module = torch.export.load(path).module()

    def call(image: np.ndarray, score_threshold: float) -> Outputs:
        with torch.inference_mode():
            boxes, scores, labels = module(torch.from_numpy(image), torch.tensor(score_threshold))
        return boxes.numpy(), scores.numpy(), labels.numpy()

    return call


def write_openvino(program: ExportedProgram, facts: Mapping[str, Any], folder: Path) -> None:
    """Fill a folder with OpenVINO's model.xml and model.bin, and the facts as metadata.json. Raises OSError."""
    os.environ.setdefault("OPENVINO_TELEMETRY_ENABLED", "0")
    import openvino

    folder.mkdir()
    with quietly():
        model = openvino.convert_model(io.BytesIO(to_onnx(program, facts).SerializeToString()))
        model.set_rt_info(as_text(facts), [KEY])
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    (folder / FACTS_FILE).write_text(as_text(facts), encoding="utf-8")


def run_openvino(folder: Path) -> Runner:
    """The folder in OpenVINO, on the CPU, in float32."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = openvino.Core().compile_model(folder / "model.xml", "CPU", settings)

    def call(image: np.ndarray, score_threshold: float) -> Outputs:
        outputs = model({"image": image, "score_threshold": np.array(score_threshold, np.float32)})
        return outputs["boxes"], outputs["scores"], outputs["labels"]

    return call


WRITERS: dict[Format, Callable[[ExportedProgram, Mapping[str, Any], Path], None]] = {
    "onnx": write_onnx,
    "pt2": write_pt2,
    "openvino": write_openvino,
}
RUNNERS: dict[Format, Callable[[Path], Runner]] = {"onnx": run_onnx, "pt2": run_pt2, "openvino": run_openvino}
