"""The ways to run the two networks that are measured beside each other."""

import copy
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from benchmarking.peer import Pair, peer_inputs
from benchmarking.sample_pictures import as_batch
from detector.fast.choose import has_kernels
from detector.fast.compiled import Compiled
from detector.fast.fuse import fuse
from detector.structures import Selection

Run = Callable[[], list[Selection]]  # the same pictures again, from the host's memory to detections in it


@dataclass(frozen=True)
class Form:
    """A network and how it runs.

    fast: ours by its fast execution; the peer has none. channels_last: of the peer. compiled: by `torch.compile`.
    """

    name: str
    network: Literal["ours", "peer"]
    dtype: torch.dtype = torch.float32
    fast: bool = False
    channels_last: bool = False
    compiled: bool = False


# As users run it, and step by step to what is the strongest form of it.
EAGER = Form("peer, eager", "peer")
PEER_BFLOAT16 = Form("peer, bf16 channels-last", "peer", torch.bfloat16, channels_last=True)
STRONGEST = Form("peer, bf16 channels-last compiled", "peer", torch.bfloat16, channels_last=True, compiled=True)
FAST = Form("ours", "ours", fast=True)
FAST_BFLOAT16 = Form("ours, bf16", "ours", torch.bfloat16, fast=True)
FAST_COMPILED = Form("ours, bf16 compiled", "ours", torch.bfloat16, fast=True, compiled=True)
READABLE = Form("ours, readable", "ours")
OURS = (FAST, FAST_BFLOAT16)

FORMS: dict[str, Form] = {
    "eager": EAGER,
    "channels-last": Form("peer, channels-last", "peer", channels_last=True),
    "compiled": Form("peer, channels-last compiled", "peer", channels_last=True, compiled=True),
    "bf16": Form("peer, bf16", "peer", torch.bfloat16),
    "bf16-channels-last": PEER_BFLOAT16,
    "bf16-compiled": STRONGEST,
    "readable": READABLE,
    "ours-compiled": FAST_COMPILED,
}


def runnable(forms: Iterable[Form], device: torch.device) -> list[Form]:
    """Those of the forms that this machine has kernels for: without them bfloat16 on a CPU is float32 in our network,
    and in the peer eight times as slow as float32."""
    has_bfloat16 = device.type != "cpu" or has_kernels(torch.bfloat16)
    return [form for form in forms if form.dtype != torch.bfloat16 or has_bfloat16]


class CannotCompileError(Exception):
    """torch.compile does not work here; the message has its reason."""


def prepare(form: Form, pair: Pair, pixels: Tensor, device: torch.device) -> Run:
    """The network in this form, on the device, given these pictures: [N, 3, H, W] uint8.

    What a call does: pictures to the device (the peer's are floats, ours bytes), normalisation, network, NMS, and
    detections back. Nothing of the pair is changed.
    """
    if form.network == "peer":
        return _prepare_peer(form, pair, pixels, device)
    model: nn.Module = copy.deepcopy(pair.model).to(device)
    if form.fast:
        model = fuse(cast(Any, model), form.dtype, form.compiled)
    batch = as_batch(pixels, pair.config.input.pad_to_multiple)
    batch = batch.pin_memory() if device.type == "cuda" else batch

    @torch.inference_mode()
    def run() -> list[Selection]:
        selections: list[Selection] = model(batch.to(device))
        if form.compiled and any(isinstance(part, Compiled) and part.compiled is None for part in model.modules()):
            raise CannotCompileError("it went on uncompiled")
        return [selection.to(torch.device("cpu")) for selection in selections]

    return run


def _prepare_peer(form: Form, pair: Pair, pixels: Tensor, device: torch.device) -> Run:
    peer = convert_peer(form, pair.peer, device)
    inputs = peer_inputs(pixels, device)

    @torch.inference_mode()
    def run() -> list[Selection]:
        with torch.autocast(device.type, form.dtype, enabled=form.dtype != torch.float32):
            results = peer([picture.to(device) for picture in inputs])
        return [Selection(r["boxes"].cpu(), r["scores"].cpu(), r["labels"].cpu()) for r in results]

    return run


def convert_peer(form: Form, peer: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the peer in this form; bfloat16 is autocast's, and left to the call.

    What is compiled is all of its arithmetic; NMS and the choice of boxes between have no fixed shapes.
    """
    chosen: Any = copy.deepcopy(peer).to(device)
    if form.channels_last:
        chosen = chosen.to(memory_format=torch.channels_last)
    if form.compiled:
        chosen.backbone = torch.compile(chosen.backbone)
        chosen.rpn.head = torch.compile(chosen.rpn.head)
        chosen.roi_heads.box_head = torch.compile(chosen.roi_heads.box_head)
        chosen.roi_heads.box_predictor = torch.compile(chosen.roi_heads.box_predictor)
    return cast(nn.Module, chosen)


def warm_up(form: Form, run: Callable[[], object]) -> None:
    """Run once, and what is compiled a second time, so that compiling and choosing kernels is over.

    Raises:
        CannotCompileError: the form is a compiled one and its compiler fails.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

    if not form.compiled:
        run()
        return
    try:
        run()
        run()
    except TorchDynamoException as error:
        raise CannotCompileError(textwrap.shorten(str(error), 200)) from error
