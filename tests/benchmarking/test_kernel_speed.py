import pytest
import torch
from benchmarking import kernel_speed
from benchmarking.forms import EAGER, FAST, FAST_BFLOAT16, runnable
from benchmarking.kernel_speed import PROBLEMS, Problem
from benchmarking.machine import describe_machine
from kernels import chosen

from detector.fast.choose import Processor, has_kernels

CPU = torch.device("cpu")


@pytest.mark.skipif(not has_kernels(torch.float32), reason="without oneDNN there is nothing to choose")
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.layer)
def test_both_kernels_compute_the_same(problem: Problem) -> None:
    execution = chosen(torch.float32)
    small = Problem(problem.layer, (16, 24), (8, 8), min(problem.count, 5), problem.stride)
    direct, other = kernel_speed._kernels(small, execution).values()
    x = execution.channels_last(torch.randn(small.count, 16, 8, 8))
    torch.testing.assert_close(direct(x), other(x), rtol=1e-4, atol=1e-4)


def test_forms_that_the_machine_has_no_kernels_for_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = (EAGER, FAST, FAST_BFLOAT16)
    monkeypatch.setattr("benchmarking.forms.has_kernels", lambda _: False)
    assert runnable(forms, CPU) == [EAGER, FAST]
    assert runnable(forms, torch.device("cuda")) == list(forms)
    monkeypatch.setattr("benchmarking.forms.has_kernels", lambda _: True)
    assert runnable(forms, CPU) == list(forms)


def test_the_machine_is_described_with_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarking.machine.this_processor", lambda: Processor("AVX2", amx=False))
    monkeypatch.setattr("benchmarking.machine.has_kernels", lambda dtype: dtype == torch.float32)
    monkeypatch.setattr("benchmarking.machine.has_products", lambda _: True)
    assert describe_machine(CPU)[1] == (
        "PyTorch's kernels use AVX2; ours in float32: oneDNN's, 3×3 convolutions multiplying less; "
        "in bfloat16: none, so it is float32"
    )
