import pytest
import torch

from detector.device import choose_device
from detector.errors import UserError


def pretend(monkeypatch: pytest.MonkeyPatch, cuda_devices: int, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda_devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda_devices)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda_devices", "mps", "expected"),
    [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda"), (1, True, "cuda")],
)
def test_auto_takes_the_best(monkeypatch: pytest.MonkeyPatch, cuda_devices: int, mps: bool, expected: str) -> None:
    pretend(monkeypatch, cuda_devices, mps)
    assert choose_device("auto") == choose_device() == torch.device(expected)


def test_devices_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda_devices=2, mps=True)
    for name in ("cpu", "mps", "cuda", "cuda:1"):
        assert choose_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", r"device 'cuda' is not available \(0 CUDA devices found\); use --device auto or cpu"),
        ("cuda:0", r"0 CUDA devices"),
        ("mps", r"device 'mps' is not available here; use --device auto or cpu"),
        ("gpu", r"device 'gpu' is unknown; choose auto, cpu, cuda, cuda:N or mps"),
        ("", r"device '' is unknown"),
        ("meta", r"device 'meta' is not supported; choose auto"),
    ],
)
def test_devices_that_are_not(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    pretend(monkeypatch, cuda_devices=0, mps=False)
    with pytest.raises(UserError, match=message):
        choose_device(name)


def test_a_card_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda_devices=2, mps=False)
    with pytest.raises(UserError, match=r"device 'cuda:2' is not available \(2 CUDA devices found\)"):
        choose_device("cuda:2")
