"""The pretended device itself: it says what a GPU would say, and computes what the CPU computes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretended_gpu import GPU, PretendedGPU, pretended_gpu
from pretended_rules import MixedDevicesError
from pretended_tensor import PretendedTensor
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms

CPU = torch.device("cpu")
X = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])
BOXES = torch.tensor([[0.0, 0.0, 9.0, 9.0], [1.0, 1.0, 9.0, 9.0], [20.0, 20.0, 30.0, 30.0]])


def values(tensor: Tensor) -> Tensor:
    """What a pretended tensor holds, looked at without a wait."""
    assert isinstance(tensor, PretendedTensor)
    return tensor.held


def test_a_tensor_says_that_it_is_on_the_gpu_and_comes_back_unchanged(gpu: PretendedGPU) -> None:
    for moved in (X.to("cuda"), X.to(GPU), X.cuda(), torch.tensor(X.tolist(), device="cuda"), X.cpu().to(X.cuda())):
        assert moved.device == GPU
        assert moved.is_cuda
        assert not moved.is_cpu
        assert type(moved.cpu()) is Tensor
        assert torch.equal(moved.cpu(), X)
    assert X.device == CPU
    assert gpu.missing == {}


def test_arithmetic_gives_the_cpus_values(gpu: PretendedGPU) -> None:
    moved = X.to(GPU)
    made = torch.arange(3, device=GPU, dtype=torch.float32)
    assert torch.equal(values((moved * 2 + made).relu().T @ moved), (X * 2 + torch.arange(3.0)).relu().T @ X)
    assert gpu.waits[1:] == []  # but for X's upload


def test_writing_in_place_reaches_all_views_and_gives_the_same_object(gpu: PretendedGPU) -> None:
    moved = X.to(GPU)
    row = moved[1]
    assert row.mul_(2) is row
    row[0] = 7.0
    assert torch.equal(values(moved), torch.tensor([[1.0, -2.0, 3.0], [7.0, 10.0, -12.0]]))
    assert torch.equal(X[1], torch.tensor([4.0, 5.0, -6.0]))
    assert gpu.kernels > 0


def test_gradients_are_the_cpus(gpu: PretendedGPU) -> None:
    def loss(x: Tensor, weight: Tensor) -> Tensor:
        hidden = F.linear(x, weight).relu()
        return hidden[hidden > 1].sum() + F.smooth_l1_loss(hidden, torch.zeros_like(hidden)) + hidden[:, :1].mean()

    expected = torch.ones(4, 3, requires_grad=True)
    loss(X, expected).backward()
    weight = torch.ones(4, 3).to(GPU).requires_grad_()
    loss(X.to(GPU), weight).backward()
    assert weight.grad is not None
    assert weight.grad.device == GPU
    assert expected.grad is not None
    assert torch.equal(weight.grad.cpu(), expected.grad)
    assert gpu.missing == {}


def test_a_module_moves_with_its_parameters_and_can_be_copied(gpu: PretendedGPU) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    expected = module.eval()(torch.ones(1, 3, 5, 5))
    moved = copy.deepcopy(module).to("cuda")
    for network in (moved, copy.deepcopy(moved)):
        assert [p.device for p in network.parameters()] == [GPU] * 4
        assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in network.parameters())
        assert [b.device for b in network.buffers()] == [GPU] * 3
        assert torch.equal(network(torch.ones(1, 3, 5, 5).to(GPU)).cpu(), expected)
    moved[0].weight.data.zero_()
    assert module[0].weight.abs().sum() > 0
    assert {p.device for p in module.parameters()} == {CPU}
    assert gpu.missing == {}


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + X,
        lambda x: torch.cat((x, X)),
        lambda x: torch.where(x > 0, x, X),
        lambda x: F.linear(x, X),
        lambda x: X[x[0].long()],
        lambda x: x.index_put_((torch.tensor([0]),), X[0]),
        lambda x: torch._foreach_add_([x], [X]),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_operands_on_two_devices_are_refused(call: Callable[[Tensor], Any]) -> None:
    with pytest.raises(MixedDevicesError, match="CPU"):
        call(X.to(GPU))


def test_single_numbers_and_indices_may_lie_on_the_cpu(gpu: PretendedGPU) -> None:
    moved = X.to(GPU)
    gpu.forget()
    assert torch.equal(values(moved * torch.tensor(2.0) + 1), X * 2 + 1)
    assert gpu.waits == []
    assert torch.equal(values(moved[torch.tensor([1])]), X[1:])
    assert [wait.kind for wait in gpu.waits] == ["upload"]


@pytest.mark.parametrize(
    ("call", "kinds"),
    [
        (lambda _x: X.to(GPU), ["upload"]),
        (lambda _x: X.to(GPU, non_blocking=True), []),
        (lambda _x: torch.tensor([1.0], device=GPU), ["upload"]),
        (lambda x: x.new_tensor([1.0]), ["upload"]),
        (lambda x: x[:, [1, 0]], ["upload"]),
        (lambda x: x.copy_(X), ["upload"]),
        (lambda x: X.clone().copy_(x), ["download"]),
        (lambda x: x.cpu(), ["download"]),
        (lambda x: x.tolist(), ["download"]),
        (lambda x: x.sum().item(), ["value"]),
        (lambda x: bool((x > 0).all()), ["value"]),
        (lambda x: float(x[0, 0]), ["value"]),
        (lambda x: torch.equal(x, x), ["value"]),
        (lambda x: x.nonzero(), ["size"]),
        (lambda x: torch.nonzero(x, as_tuple=True), ["size"]),
        (lambda x: x[x > 0], ["size"]),
        (lambda x: x.masked_select(x > 0), ["size"]),
        (lambda x: x.unique(), ["size"]),
        (lambda x: x.repeat_interleave(x[0].abs().long(), dim=1), ["size"]),
        (lambda x: x.repeat_interleave(x[0].abs().long(), dim=1, output_size=6), []),
        (lambda x: nms(BOXES.to(GPU, non_blocking=True), x[0], 0.5), ["size"]),
        (lambda x: x.index_put_((x > 0,), torch.tensor(0.0)), []),
        (lambda x: x.masked_fill_(x > 0, 0.0), []),
        (lambda x: torch.where(x > 0, x, 0.0), []),
        (lambda x: x[:, x[0].abs().long() % 3], []),
        (lambda x: torch.zeros_like(x) + torch.arange(3, device=x.device) + x.new_full((3,), 2.0), []),
        (lambda x: x.topk(2).indices.sort(), []),
        (lambda _x: torch.cuda.synchronize(), ["value"]),
    ],
)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])
def test_what_makes_the_host_wait(
    gpu: PretendedGPU, mode: Any, call: Callable[[Tensor], Any], kinds: list[str]
) -> None:
    with mode():
        moved = X.to(GPU)
        gpu.forget()
        call(moved)
    assert [wait.kind for wait in gpu.waits] == kinds


def test_a_wait_names_the_line_of_ours_that_asked_for_it(gpu: PretendedGPU) -> None:
    from detector.training.sampler import sample

    labels = torch.tensor([1, 0, -1, 0]).to(GPU)
    gpu.forget()
    sample(labels, 2, 0.5, seed=0)
    assert len(gpu.waits) >= 2
    assert {wait.place.split(":")[0] for wait in gpu.waits} == {"detector/training/sampler.py"}
    assert all(wait.place.endswith(" sample") for wait in gpu.waits)
    assert "detector/training/sampler.py" in gpu.table()


def test_an_operator_without_a_cuda_kernel_is_named(gpu: PretendedGPU) -> None:
    library = torch.library.Library("readiness", "DEF")  # type: ignore[no-untyped-call]
    try:
        library.define("only_on_the_cpu(Tensor x) -> Tensor")
        library.impl("only_on_the_cpu", lambda x: x + 1, "CPU")
        assert torch.equal(values(torch.ops.readiness.only_on_the_cpu(X.to(GPU))), X + 1)
        assert list(gpu.missing) == ["readiness::only_on_the_cpu"]
    finally:
        library._destroy()


def test_autocast_lowers_and_raises_types_as_cudas_does(gpu: PretendedGPU) -> None:
    weight = torch.randn(2, 3, 1, 1, generator=torch.Generator().manual_seed(0)).to(GPU).requires_grad_()
    with torch.autocast("cuda", torch.bfloat16):
        out = F.conv2d(torch.ones(1, 3, 2, 2).to(GPU), weight)
        assert out.dtype == torch.bfloat16
        assert (out @ out).dtype == torch.bfloat16
        assert out.softmax(dim=1).dtype == torch.float32
        assert F.smooth_l1_loss(out, torch.zeros_like(out)).dtype == torch.float32
        assert out.relu().dtype == torch.bfloat16
        out.softmax(dim=1)[:, 0].sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    assert F.conv2d(torch.ones(1, 3, 2, 2).to(GPU), weight).dtype == torch.float32
    assert gpu.dtypes["aten::convolution", torch.bfloat16] == 2


def test_afterwards_there_is_no_device_left() -> None:
    before = torch.cuda.is_available()
    with pretended_gpu():
        assert torch.cuda.is_available()
        moved = X.to(GPU)
    assert torch.cuda.is_available() == before
    with pytest.raises(RuntimeError, match="outside of"):
        moved + 1
