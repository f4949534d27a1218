"""SGD with momentum, its parameter groups, and its state by parameter name."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from detector.config import TrainConfig
from detector.errors import UserError

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)


def build_optimizer(model: nn.Module, train: TrainConfig) -> torch.optim.SGD:
    """SGD over the parameters that are not frozen.

    Scale and shift of normalisation layers decay by `norm_weight_decay`; all else, biases included, by `weight_decay`
    (the lineage's choice; Fast R-CNN §2.3 decays the same).

    Raises:
        UserError: every parameter is frozen.
    """
    norms, others = parameter_groups(model)
    if not norms and not others:
        raise UserError("every parameter is frozen: nothing is left to train.")
    groups = [
        {"params": list(others.values()), "weight_decay": train.weight_decay},
        {"params": list(norms.values()), "weight_decay": train.norm_weight_decay},
    ]
    # The learning rate is set before every step from the schedule.
    return torch.optim.SGD([g for g in groups if g["params"]], lr=0.0, momentum=train.momentum, fused=True)


def parameter_groups(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Trained parameters by name: those of normalisation layers, and all others. Frozen ones are left out."""
    norms: dict[str, nn.Parameter] = {}
    others: dict[str, nn.Parameter] = {}
    for module_name, module in model.named_modules():
        group = norms if isinstance(module, NORMS) else others
        for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
            if parameter.requires_grad:
                group[name] = parameter
    return norms, others


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use this learning rate, the same for every group, in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def momentum_buffers(optimizer: torch.optim.SGD, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's whole state: a momentum buffer for each trained parameter, of its shape, by its name.

    Empty before the first step, and with momentum 0.
    """
    state = {name: optimizer.state[p].get("momentum_buffer") for name, p in model.named_parameters() if p.requires_grad}
    return {name: buffer for name, buffer in state.items() if buffer is not None}


def load_momentum_buffers(optimizer: torch.optim.SGD, model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    """Put buffers from `momentum_buffers` back, on the parameters' devices. Their names and shapes must match exactly.

    Raises:
        UserError: the buffers are not those of this model's trained parameters.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    strange = sorted(buffers.keys() ^ trained.keys()) if buffers else []
    strange += [name for name, p in trained.items() if name in buffers and buffers[name].shape != p.shape]
    if strange:
        raise UserError(
            "the checkpoint's optimizer state does not fit the parameters that are trained now "
            f"({len(strange)} differ, the first is {strange[0]}); "
            "resume with the model and the freezing that the run began with."
        )
    for name, buffer in buffers.items():
        parameter = trained[name]
        # Into the parameter's own memory layout, which the fused step wants for both.
        optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)
