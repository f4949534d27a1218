"""Paths that only large problems take, taken by small ones."""

import pytest

from detector.fast import winograd_gradient as winograd


def train_by_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the maps, and however few their channels."""
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 1)
    monkeypatch.setattr(winograd, "MIN_SAVED", 0.0)
