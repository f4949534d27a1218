"""Detection on a device: the CPU's numbers, no operand left behind, no operator without a kernel, few waits."""

import copy
from dataclasses import replace

import pytest
import torch
from device_cases import CPU, KINDS, detect, network, same_detections
from pretended_gpu import GPU, PretendedGPU
from tiny_models import one_of, random_batch, tiny_config, tiny_model

from detector.categories import CategoryMap
from detector.fast.fuse import fuse
from detector.inference.predictor import Predictor

IMAGES = random_batch([(96, 128), (120, 100)])

# How often the host waits, whatever the batch holds: for the detections at its end. It may only become smaller.
WAITS_OF_A_BATCH = 1


@pytest.mark.parametrize(
    ("kind", "fast"), [*((kind, True) for kind in KINDS), ("bottlenecks", False), ("RoIPool", False)]
)
def test_the_cpus_detections(gpu: PretendedGPU, kind: str, fast: bool) -> None:
    model, _ = network(kind)
    expected = detect(model, IMAGES, CPU, fast=fast)
    assert min(len(selection) for selection in expected) > 10
    compared = same_detections(detect(model, IMAGES, GPU, fast=fast), expected)
    assert not compared.mismatches, compared.mismatches
    assert gpu.missing == {}


@pytest.mark.parametrize("kind", ["bottlenecks", "RoIPool", "group norm"])
def test_bfloat16_runs_on_the_device_too(gpu: PretendedGPU, kind: str) -> None:
    model, _ = network(kind)
    expected = detect(model, IMAGES, CPU)
    found = detect(model, IMAGES, GPU, "bfloat16")
    assert gpu.missing == {}
    assert gpu.dtypes["aten::convolution", torch.bfloat16] > gpu.dtypes["aten::convolution", torch.float32]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.boxes.dtype == ours.scores.dtype == torch.float32
        assert abs(len(ours) - len(theirs)) <= 0.2 * len(theirs)
        torch.testing.assert_close(ours.scores[:10], theirs.scores[:10], rtol=0, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["bottlenecks", "torchvision's", "RoIPool", "FPN"])
def test_the_host_waits_once_a_batch(gpu: PretendedGPU, kind: str, dtype: torch.dtype) -> None:
    model, _ = network(kind)
    fused = fuse(copy.deepcopy(model).to(GPU), dtype)
    for images in (one_of(IMAGES, 0), IMAGES, IMAGES, IMAGES):  # the last comes as often as a CUDA graph's sizes
        gpu.forget()
        with torch.inference_mode():
            for selection in fused(images.to(GPU)):
                selection.to(CPU)
        assert len(gpu.waits) == WAITS_OF_A_BATCH, gpu.table()


def test_a_call_of_predict_waits_once_a_batch_too(gpu: PretendedGPU) -> None:
    model, config = network("bottlenecks")
    categories = CategoryMap.from_coco([{"id": i, "name": f"class {i}"} for i in (1, 2, 3)])
    predictor = Predictor(copy.deepcopy(model).to("cuda"), config, categories)
    pictures = [one_of(IMAGES, 0).pixels[0]] * 3
    gpu.forget()
    predictor.predict(pictures, batch_size=3)
    assert len(gpu.waits) == WAITS_OF_A_BATCH, gpu.table()


def test_what_a_user_calls(gpu: PretendedGPU) -> None:
    config = tiny_config(backbone={"depth": 50})
    categories = CategoryMap.from_coco([{"id": i, "name": f"class {i}"} for i in (1, 2, 3)])
    model = tiny_model(config)
    pictures = [one_of(IMAGES, i).pixels[0] for i in (0, 1, 0)]
    expected = Predictor(model, config, categories).predict(pictures, score_threshold=0.06)
    predictor = Predictor(copy.deepcopy(model).to("cuda"), config, categories, precision="float32")
    found = predictor.predict(pictures, score_threshold=0.06)
    assert gpu.missing == {}
    assert {type(one.boxes) for one in found} == {torch.Tensor}
    compared = same_detections(found, expected)
    assert not compared.mismatches, compared.mismatches


def test_pictures_in_which_nothing_is_found(gpu: PretendedGPU) -> None:
    model = copy.deepcopy(network("bottlenecks")[0])
    model.detection_settings = replace(model.detection_settings, score_threshold=1.0)
    found = detect(model, IMAGES, GPU)
    assert [tuple(selection.boxes.shape) for selection in found] == [(0, 4)] * 2
    model = copy.deepcopy(network("bottlenecks")[0])
    model.proposal_settings = replace(model.proposal_settings, min_size=10_000.0)
    found = detect(model, IMAGES, GPU)
    assert [tuple(selection.boxes.shape) for selection in found] == [(0, 4)] * 2
    assert gpu.missing == {}
