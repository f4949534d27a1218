"""The network on a GPU gives the CPU's detections, losses, gradients and weights."""

import copy
from dataclasses import replace

import pytest
import torch
from device_cases import CPU, KINDS, NOTHING, TARGETS, Trainer, detect, network, same_detections, same_steps
from device_cases import training_batch as batch_of
from tiny_models import one_of, random_batch

from detector.arithmetic import float32_products
from detector.categories import CategoryMap
from detector.fast.fold_together import Folds, stages_of
from detector.fast.fuse import fuse
from detector.fast.fused_gradient import run_fused
from detector.fast.slots import SlotFasterRCNN
from detector.inference.detect import detect_dataset
from detector.inference.predictor import Predictor
from detector.structures import Target
from detector.training.joint import build_joint
from detector.training.run.validation import validation_losses

CATEGORIES = CategoryMap.from_coco([{"id": 10 * i, "name": f"class {i}"} for i in (1, 2, 3)])
IMAGES = random_batch([(96, 128), (120, 100)])
MANY_SIZES = [(64, 64), (97, 131), (200, 80), (80, 333), (161, 162), (33, 47), (256, 256)]


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_cpus_detections(cuda: torch.device, kind: str, fast: bool) -> None:
    model, _ = network(kind)
    expected = detect(model, IMAGES, CPU, fast=fast)
    compared = same_detections(detect(model, IMAGES, cuda, fast=fast), expected)
    assert not compared.mismatches, compared.mismatches


def test_pictures_of_many_sizes_one_after_another(cuda: torch.device) -> None:
    model, config = network("bottlenecks")
    pictures = [one_of(random_batch([size], seed=i), 0).pixels[0] for i, size in enumerate(MANY_SIZES)]
    expected = Predictor(model, config, CATEGORIES).predict(pictures, score_threshold=0.06)
    predictor = Predictor(copy.deepcopy(model).to(cuda), config, CATEGORIES, precision="float32")
    found = predictor.predict(pictures, score_threshold=0.06)
    compared = same_detections(found, expected)
    assert not compared.mismatches, compared.mismatches


def test_pictures_in_which_nothing_is_found(cuda: torch.device) -> None:
    for change in ({"detection_settings": {"score_threshold": 1.0}}, {"proposal_settings": {"min_size": 10_000.0}}):
        model = copy.deepcopy(network("bottlenecks")[0])
        for name, values in change.items():
            setattr(model, name, replace(getattr(model, name), **values))
        found = detect(model, IMAGES, cuda)
        assert [tuple(selection.boxes.shape) for selection in found] == [(0, 4)] * 2


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        *((kind, TARGETS) for kind in KINDS),
        ("bottlenecks", [TARGETS[0], NOTHING]),
        ("bottlenecks", [NOTHING, NOTHING]),
        ("basic blocks", [NOTHING]),
    ],
)
def test_the_cpus_losses_gradients_and_weights(cuda: torch.device, kind: str, targets: list[Target]) -> None:
    model, config = network(kind)
    batch = batch_of(targets)
    expected = Trainer(model, config, CPU).recorded_step(batch)
    compared = same_steps(Trainer(model, config, cuda).recorded_step(batch), expected)
    assert not compared.mismatches, compared.mismatches


def test_bfloat16_learns_what_float32_learns(cuda: torch.device) -> None:
    model, config = network("bottlenecks")
    totals = {}
    for precision in ("float32", "bfloat16"):
        trainer = Trainer(model, config, cuda, "bfloat16" if precision == "bfloat16" else "float32")
        steps = [trainer.step(batch_of()) for _ in range(12)]
        totals[precision] = [sum(float(loss) for loss in losses.values()) for losses in (steps[0], steps[-1])]
    assert totals["bfloat16"][0] == pytest.approx(totals["float32"][0], rel=0.1)
    assert all(last < 0.9 * first for first, last in totals.values()), totals


def test_the_cpus_coco_results(cuda: torch.device) -> None:
    model, _ = network("bottlenecks")
    pictures = [one_of(IMAGES, 0), one_of(IMAGES, 1)]
    expected = detect_dataset(fuse(model), pictures, CPU, CATEGORIES, progress=False)
    found = detect_dataset(fuse(copy.deepcopy(model).to(cuda)), pictures, cuda, CATEGORIES, progress=False)
    assert len(found) == len(expected) > 50
    scores = [[r["score"] for r in results] for results in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_the_cpus_validation_losses(cuda: torch.device) -> None:
    model, config = network("live batch norm")
    expected = validation_losses(build_joint(model, config.model), [batch_of()], CPU, "float32")
    moved = copy.deepcopy(model).to(cuda)
    found = validation_losses(build_joint(moved, config.model), [batch_of()], cuda, "float32")
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["bottlenecks", "torchvision's", "FPN"])
def test_the_network_as_a_graph_gives_the_same_bits(cuda: torch.device, kind: str) -> None:
    fused = fuse(copy.deepcopy(network(kind)[0]).to(cuda))
    assert isinstance(fused, SlotFasterRCNN)
    batches = [random_batch(sizes).to(cuda) for sizes in ([(96, 128), (80, 100)], [(70, 128), (96, 90)])]
    with torch.inference_mode():
        as_graph = [fused.slots(batches[i % 2]) for i in range(8)]
        graphs, fused.graphs = fused.graphs, None
        assert graphs is not None
        assert not graphs._failed
        assert len(graphs._graphs) == 1
        for i, slots in enumerate(as_graph):
            assert torch.equal(slots, fused.slots(batches[i % 2])), i
            assert (slots[..., 5] > 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_of_one_function_have_the_cpus_gradients(cuda: torch.device, dtype: torch.dtype) -> None:
    for block in (b for stage in network("torchvision's")[0].backbone.children() for b in stage.children()):
        block = copy.deepcopy(block).requires_grad_(True)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            x = torch.randn(2, block.conv1.in_channels, 24, 20).contiguous(memory_format=torch.channels_last)
        results = []
        for device in (torch.device("cpu"), cuda):
            here, given = copy.deepcopy(block).to(device), x.clone().to(device).requires_grad_(True)
            folds = Folds(stages_of(torch.nn.Sequential(torch.nn.Sequential(here))), lambda *_: True)
            with float32_products("float32"), torch.autocast(device.type, torch.bfloat16, dtype == torch.bfloat16):
                folds.prepare()
                out = run_fused(here, given.to(dtype), folds)
            assert out is not None
            with float32_products("float32"):
                out.float().square().sum().backward()
            results.append([out.float(), given.grad, *(p.grad for p in here.parameters())])
        bound = 1e-3 if dtype == torch.float32 else 0.05
        for ours, theirs in zip(results[1], results[0], strict=True):
            assert (ours.cpu() - theirs).norm() <= bound * theirs.norm()
