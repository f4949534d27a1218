"""One optimizer step's forward and backward passes."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from detector.arithmetic import TrainingPrecision, autocast, check_precision, float32_products, has_bfloat16
from detector.config import TrainConfig
from detector.datasets.loading.batch import TrainingBatch
from detector.errors import UserError
from detector.fast.choose import has_kernels
from detector.process_group import maximum_over_processes
from detector.training.losses import Losses
from detector.training.process.watchdog import Watchdog

log = logging.getLogger(__name__)


def choose_precision(train: TrainConfig, device: torch.device) -> TrainingPrecision:
    """How training computes on this device. Raises UserError where `tf32` is asked for and the device has none.

    `auto` is bfloat16 on a GPU that has it, float16 on one that does not (before NVIDIA's Ampere), and float32
    elsewhere. Where bfloat16 is asked for on a processor without kernels for it, float32 is used, as in detection
    (`choose_execution`): PyTorch would emulate bfloat16, many times slower.
    """
    if train.precision == "auto":
        if device.type != "cuda":
            return "float32"
        return "bfloat16" if has_bfloat16(device) else "float16"
    check_precision(train.precision, device)
    if device.type == "cpu":
        if train.precision == "bfloat16" and not has_kernels(torch.bfloat16):
            log.warning(
                "train.precision=bfloat16 is not used: this processor has no kernels for it. Training computes in"
                " float32, which is many times as fast here and rounds less."
            )
            return "float32"
        if train.precision == "float16":
            log.warning("train.precision=float16 is slow on a CPU, many times slower than float32 on most.")
    return train.precision


def forward_backward(
    joint: nn.Module,
    batches: Sequence[TrainingBatch],
    device: torch.device,
    precision: TrainingPrecision,
    scale: float = 1.0,
) -> list[Losses]:
    """Put the gradient of the mean loss into the parameters' `grad`: the mean over the step's micro-batches.

    With several processes it is the mean over those of all processes.

    Args:
        joint: `JointTraining`, which may be wrapped in DistributedDataParallel; its gradients must be empty.
        batches: this process's micro-batches of the step, on any device.
        device: where `joint` computes.
        precision: bfloat16 and float16 compute under autocast; float32 and tf32 say how a GPU multiplies float32
            tensors.
        scale: factor of the loss in the backward pass, and so of the gradients, but not of the losses returned.

    Returns:
        The losses of each micro-batch in this process, on the device, detached.
    """
    losses = []
    for position, batch in enumerate(batches):
        last = position == len(batches) - 1
        # Processes exchange gradients once a step, in the last backward pass.
        alone = joint.no_sync() if isinstance(joint, DistributedDataParallel) and not last else nullcontext()
        with alone, float32_products(precision):
            moved = batch.to(device, non_blocking=True)
            with autocast(precision, device):
                of_batch: Losses = joint(moved.images, moved.targets, moved.seeds)
            mean = total(of_batch) / len(batches)
            (mean if scale == 1 else mean * scale).backward()  # type: ignore[no-untyped-call]
        losses.append({name: loss.detach() for name, loss in of_batch.items()})
    return losses


def total(losses: Losses) -> Tensor:
    """The sum of the losses, a scalar: what is minimised."""
    return torch.stack(list(losses.values())).sum()


def mean_losses(losses: Sequence[Losses]) -> Losses:
    """The mean of each loss over the micro-batches, scalars that stay on the device."""
    return {name: torch.stack([of_batch[name] for of_batch in losses]).mean() for name in losses[0]}


def gradient_norm(model: nn.Module) -> Tensor:
    """The norm of all gradients together, a scalar that stays on the device. Every trained parameter must have one."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = [p.grad for p in parameters if p.grad is not None]
    # A parameter that a loss does not reach would leave the processes of a distributed run waiting for each other.
    assert len(gradients) == len(parameters), "the losses must reach every trained parameter, whatever the batch holds"
    return get_total_norm(gradients)


def clip_and_check(losses: Losses, model: nn.Module, max_norm: float | None, norm: Tensor | None = None) -> bool:
    """Clip the gradients, and say whether this step may be taken: every process's loss and gradient are finite.

    All processes must call it, and all get the same answer. Reading it is the one moment of a step at which the host
    waits for the GPU.

    Args:
        losses: of this process.
        model: with the step's gradients.
        max_norm: of all gradients together; None does not clip.
        norm: `gradient_norm` where it is known already.
    """
    norm = gradient_norm(model) if norm is None else norm
    if max_norm is not None:
        clip_grads_with_norm_([p for p in model.parameters() if p.requires_grad], max_norm, norm)
    finite = bool(torch.isfinite(total(losses)) & torch.isfinite(norm))
    return not maximum_over_processes([int(not finite)])[0]


@contextmanager
def explain_out_of_memory(watchdog: Watchdog) -> Iterator[None]:
    """Within this context, turn a failed allocation into a sentence that names settings to lower.

    Args:
        watchdog: says what the run was doing.

    Raises:
        UserError: in its place.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(error):
            raise
        raise UserError(
            f"out of memory ({watchdog.doing}): lower train.batch_size or raise train.accumulate, or lower "
            "input.max_size_train, model.roi.batch_size_per_image or (while evaluating) input.max_size_test; "
            "--resume goes on from the last checkpoint."
        ) from error
