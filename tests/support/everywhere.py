"""Paths that only large problems take, taken by small ones."""

import pytest

from detector.fast import choose


def train_by_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the maps, and however few their channels."""
    monkeypatch.setattr(choose, "TRAINING_MIN_CHANNELS", 1)
    monkeypatch.setattr(choose, "TRAINING_MIN_SAVED", 0.0)
