"""Recorded training of detectron2: targets, losses, gradients and steps, as the `train_*` folders hold them.

A *variant* is a config and what was recorded under it: `all` samples nothing away, `firstk` takes the first positives
and negatives in index order instead of random ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparison import Comparison, Rows
from detectron2_cases import CPU, Reference, folder_id, folders_with, fresh_reference, labels, read_json
from torch import Tensor

from detector.boxes import decode_deltas, pairwise_iou
from detector.config import AugmentConfig
from detector.datasets.loading.batch import make_batch
from detector.datasets.pictures.read import read_image
from detector.datasets.pictures.transforms import TrainTransform
from detector.structures import ImageBatch, Sample, Target
from detector.training import joint as joint_module
from detector.training import targets as targets_module
from detector.training.joint import JointTraining, build_joint
from detector.training.matcher import NEGATIVE, POSITIVE, Matches
from detector.training.optimizer import build_optimizer, set_learning_rate
from detector.training.schedule import learning_rate
from detector.training.targets import RoITargets
from detector.weights.lineages.detectron2_tensors import RENAMES
from detector.weights.remap import translate
from detector.weights.state_layout import CONV1

# Ours → theirs.
LOSSES = {
    "rpn_objectness": "loss_rpn_cls",
    "rpn_box": "loss_rpn_loc",
    "roi_class": "loss_cls",
    "roi_box": "loss_box_reg",
}
BOX = 0.02
# Relative. Without oneDNN the reference differs by 4e-6 in losses and 1e-4 in norms of gradients, and we from ourselves
# by 2e-3 in gradients: an activation near zero is on or off.
LOSS, GRADIENT_NORM, GRADIENT = 5e-5, 2e-3, 5e-3
# How much further than the reference without oneDNN a step may be off: rounding grows through proposals that swap.
STEP_MARGIN, STEP_LOSS, STEP_CHANGE = 30, 1e-4, 2e-2


@dataclass(frozen=True)
class TrainingCase:
    """One variant of one folder."""

    folder: Path
    variant: str
    device: torch.device = CPU

    def on(self, device: torch.device) -> "TrainingCase":
        """The same with its arrays, its network and its batch on this device."""
        return replace(self, device=device)

    def __str__(self) -> str:
        return f"{folder_id(self.folder)}-{self.variant}"

    @property
    def arrays(self) -> dict[str, Tensor]:
        with np.load(self.folder / f"{self.variant}.npz") as arrays:
            return {key: torch.from_numpy(arrays[key]).to(self.device) for key in arrays.files}

    @property
    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.folder / "losses.json")[self.variant]
        return found

    def reference(self) -> Reference:
        """The converted network in training mode, with this variant's settings."""
        checkpoint = self.folder / read_json(self.folder / "annotations.json")["checkpoint"]
        reference = fresh_reference(checkpoint.resolve(), f"config_{self.variant}.yaml", self.folder)
        reference.model.to(self.device).train()
        return reference


def training_cases() -> list[TrainingCase]:
    """Every recorded variant."""
    folders = folders_with("annotations.json", "losses.json", "config_*.yaml")
    return [TrainingCase(f, p.stem) for f in folders for p in sorted(f.glob("*.npz")) if p.stem in ("all", "firstk")]


def read_training_batch(case: TrainingCase, reference: Reference) -> tuple[ImageBatch, list[Target]]:
    """Through our own transforms, from the pictures' bytes and the annotations' xywh."""
    images, targets, sizes = [], [], []
    for entry in read_json(case.folder / "annotations.json")["images_in_batch_order"]:
        path = case.folder.parent / "images" / entry["image"]
        picture = read_image(path.read_bytes())
        xywh = np.array([a["bbox_xywh"] for a in entry["annotations"]]).reshape(-1, 4)
        sample = Sample(
            image_id=entry["image_id"],
            path=str(path),
            size=(entry["height"], entry["width"]),
            boxes=np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1),
            labels=np.array([a["class"] + 1 for a in entry["annotations"]], dtype=np.int64),
            iscrowd=np.array([a["iscrowd"] == 1 for a in entry["annotations"]], dtype=bool),
        )
        augment = AugmentConfig(horizontal_flip=1.0 if entry["flip"] else 0.0)
        image, target = TrainTransform(reference.config.input, augment)(picture, sample, np.random.default_rng(0))
        images.append(image)
        targets.append(target)
        sizes.append((entry["height"], entry["width"]))
    batch = make_batch(images, sizes, list(range(len(images))), reference.config.input.pad_to_multiple)
    return batch.to(case.device), [target.to(case.device) for target in targets]


@dataclass
class Recording:
    """What the parts of `JointTraining` gave each other, picture by picture."""

    anchor_matches: list[Matches]
    anchor_samples: list[tuple[Tensor, Tensor]]
    proposals: list[Tensor]
    rois: list[RoITargets]


def first_of_each(kinds: Tensor, count: int, positive_fraction: float, _seed: int) -> tuple[Tensor, Tensor]:
    """In place of the sampler: the first positives and the first negatives."""
    positives = torch.nonzero(kinds == POSITIVE).flatten()[: int(count * positive_fraction)]
    negatives = torch.nonzero(kinds == NEGATIVE).flatten()[: count - len(positives)]
    return positives, negatives


@contextmanager
def recorded(variant: str) -> Iterator[Recording]:
    """Record what happens inside; the sampler of `firstk` is put in place."""
    recording = Recording([], [], [], [])
    match, roi_targets = targets_module.match, joint_module.roi_targets
    sample = first_of_each if variant == "firstk" else targets_module.sample

    def recording_match(iou: Tensor, positive: float, negative: float, keep_best: bool) -> Matches:
        found = match(iou, positive, negative, keep_best)
        if keep_best:
            recording.anchor_matches.append(found)
        return found

    def recording_sample(kinds: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        found = sample(kinds, *rest)
        if len(recording.anchor_samples) < len(recording.anchor_matches):
            recording.anchor_samples.append(found)
        return found

    def recording_roi_targets(proposals: Tensor, *rest: Any) -> RoITargets:
        recording.proposals.append(proposals)
        recording.rois.append(roi_targets(proposals, *rest))
        return recording.rois[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets_module, "match", recording_match)
        patch.setattr(targets_module, "sample", recording_sample)
        patch.setattr(joint_module, "roi_targets", recording_roi_targets)
        yield recording


def compare_training(case: TrainingCase) -> Comparison:
    """One forward and backward pass: transforms, targets, losses, and the gradient of every parameter."""
    found = Comparison()
    reference = case.reference()
    saved = case.arrays
    images, targets = read_training_batch(case, reference)
    for i, target in enumerate(targets):
        if f"img{i}_image_u8" in saved:
            height, width = images.sizes[i]
            pixels = images.pixels[i, :, :height, :width]
            found.close("image_u8", pixels, reference.rgb(saved[f"img{i}_image_u8"]), 0.0)
        found.close("gt_boxes", target.boxes, saved[f"img{i}_gt_boxes"], 1e-4)
        found.equal("gt_classes", target.labels.tolist(), labels(saved[f"img{i}_gt_classes"]).tolist())

    # What is recorded has no slots; losses in slots are the same (tests/training/test_slot_losses.py).
    joint = build_joint(reference.model, reference.config.model, in_slots=False)
    with recorded(case.variant) as recording:
        losses = joint(images, targets, list(range(len(targets))))
    compare_targets(found, case, recording, targets, joint)

    expected = case.expected
    for ours, theirs in LOSSES.items():
        found.relative(theirs, losses[ours].item(), expected["losses"][theirs], LOSS)
    total = torch.stack(list(losses.values())).sum()
    found.relative("total", total.item(), expected["total"], LOSS)
    total.backward()
    compare_gradients(found, reference, expected["grad_norm_per_parameter"], saved)
    return found


def compare_targets(
    found: Comparison, case: TrainingCase, recording: Recording, targets: list[Target], joint: JointTraining
) -> None:
    """What anchors and RoIs stand for, before and after sampling."""
    saved, counts = case.arrays, case.expected["counts"]
    for i, target in enumerate(targets):
        matches, (positives, negatives) = recording.anchor_matches[i], recording.anchor_samples[i]
        if "rpn_matched_gt" in saved:
            found.equal("rpn_matched_gt", matches.index.tolist(), saved["rpn_matched_gt"][i].tolist())
            before = saved["rpn_labels_before_sampling"][i].tolist()
            found.equal("rpn_labels_before_sampling", matches.labels.tolist(), before)
        sampled = torch.full_like(matches.labels, -1)
        sampled[positives], sampled[negatives] = 1, 0
        found.equal("rpn_labels_sampled", sampled.tolist(), saved["rpn_labels_sampled"][i].tolist())

        if f"img{i}_proposal_boxes" in saved:
            # The logits do not leave the proposals in training; the boxes are compared alone.
            ours, theirs = recording.proposals[i], saved[f"img{i}_proposal_boxes"]
            found.same_rows("proposals", unvalued(ours), unvalued(theirs), BOX, 1.0)
        found.equal("number of proposals", len(recording.proposals[i]), counts["proposals"][i])

        rois, num_classes = recording.rois[i], joint.model.roi_head.cls_score.out_features - 1
        theirs_labels = (saved[f"img{i}_roi_classes"] + 1) % (num_classes + 1)
        theirs_boxes = saved[f"img{i}_roi_boxes"]
        ours_rows, theirs_rows = unvalued(rois.boxes, rois.labels), unvalued(theirs_boxes, theirs_labels)
        found.same_rows("rois", ours_rows, theirs_rows, BOX, 1.0)
        found.equal("foreground rois", int((rois.labels > 0).sum()), counts["roi_fg"][i])
        # Where the foreground must move: their matched boxes, ours applied to the RoI.
        foreground = rois.labels > 0
        moved = decode_deltas(rois.boxes[foreground], rois.deltas, joint.roi_settings.delta_weights)
        chosen = theirs_labels > 0
        matched = saved[f"img{i}_roi_gt_boxes"][chosen]
        found.same_rows(
            "roi_gt_boxes",
            unvalued(moved, rois.labels[foreground]),
            unvalued(matched, theirs_labels[chosen]),
            BOX,
            1.0,
        )
        assert pairwise_iou(moved, target.boxes).amax(dim=1).min() > 0.999


def unvalued(boxes: Tensor, labels: Tensor | None = None) -> Rows:
    """Rows of which only box and label count."""
    return Rows(boxes, torch.zeros(len(boxes)), labels)


def compare_gradients(
    found: Comparison, reference: Reference, norms: dict[str, float | None], saved: dict[str, Tensor]
) -> None:
    """The norm of every parameter's gradient, and some gradients in full, all relative to their size."""
    gradients = by_their_names(reference, {n: p.grad for n, p in reference.model.named_parameters()})
    found.equal("parameters", sorted(gradients), sorted(norms))
    for name, norm in norms.items():
        gradient = gradients.get(name)
        if norm is None or gradient is None:
            found.equal(f"gradient of {name}", gradient, norm)
            continue
        found.relative("gradient norms", gradient.norm().item(), norm, GRADIENT_NORM)
    for key, theirs in saved.items():
        name = key.removeprefix("grad/")
        gradient = gradients.get(name)
        if key.startswith("grad/") and gradient is not None:
            found.near(f"gradient of {name}", gradient, theirs, GRADIENT)


def by_their_names(reference: Reference, ours: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    """Parameters or gradients of ours under detectron2's names, the background last and channels in their order."""
    named = translate(ours, RENAMES)
    theirs: dict[str, Tensor | None] = {}
    for name, value in ours.items():
        if value is not None and "cls_score" in name:
            value = torch.cat((value[1:], value[:1]))
        if value is not None and name in CONV1:
            value = reference.rgb(value.movedim(1, -3)).movedim(-3, 1)
        theirs[named[name]] = value
    return theirs


def compare_steps(folder: Path, device: torch.device = CPU) -> Comparison:
    """The recorded SGD steps under `config_all.yaml`, the same batch each time."""
    found = Comparison()
    case = TrainingCase(folder, "all", device)
    recorded_steps = read_json(folder / "steps.json")
    reference = case.reference()
    model, train = reference.model, reference.config.train
    images, targets = read_training_batch(case, reference)
    joint = build_joint(model, reference.config.model)
    optimizer = build_optimizer(model, train)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}

    deviations = recorded_steps["max_relative_loss_deviation_without_onednn_per_iteration"]
    for step, deviation in zip(recorded_steps["iterations"], deviations, strict=True):
        rate = learning_rate(step["iter"], train)
        found.relative("learning rate", rate, step["lr"], 1e-9)
        losses = joint(images, targets, list(range(len(targets))))
        for ours, theirs in LOSSES.items():
            tolerance = max(STEP_LOSS, STEP_MARGIN * deviation)
            found.relative(f"step {step['iter']}: losses", losses[ours].item(), step[theirs], tolerance)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        set_learning_rate(optimizer, rate)
        optimizer.step()

    changes: dict[str, Tensor | None] = {n: p.detach() - before[n] for n, p in model.named_parameters()}
    named = by_their_names(reference, changes)
    with np.load(folder / "steps_param_change.npz") as arrays:
        for name in arrays.files:
            change = named[name]
            assert change is not None
            found.near(f"change of {name}", change, torch.from_numpy(arrays[name]), STEP_CHANGE)
    after = by_their_names(reference, {n: p.detach() for n, p in model.named_parameters()})
    for group, norm in recorded_steps["final_parameter_norm_per_group"].items():
        members = [p for n, p in after.items() if p is not None and in_group(n, group)]
        assert members, f"no parameter of the group {group}"
        total = torch.stack([p.double().norm() for p in members]).norm().item()
        found.relative(f"norm of {group}", total, norm, 1e-6)
    return found


def in_group(name: str, group: str) -> bool:
    """Whether a parameter's name lies under a dotted path, wherever that begins."""
    return f".{group}." in f".{name}"
