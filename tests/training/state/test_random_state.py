import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_run import tiny_config, write_dataset

from detector.training import engine
from detector.training.state.random_state import random_states, restore_random_states, seed_everything


def draw() -> tuple[float, float, float, float]:
    return random.random(), random.gauss(0, 1), float(np.random.standard_normal()), float(torch.rand(()))  # noqa: NPY002


def test_states_survive_json_and_repeat_what_follows() -> None:
    seed_everything(5)
    draw()
    states = json.loads(json.dumps(random_states()))
    expected = [draw() for _ in range(3)]
    seed_everything(6)
    restore_random_states(states)
    assert [draw() for _ in range(3)] == expected


def test_a_seed_repeats_and_another_differs() -> None:
    seed_everything(1)
    first = draw()
    seed_everything(1)
    assert draw() == first
    seed_everything(2)
    assert draw() != first


def test_a_resumed_run_goes_on_with_every_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, drawn = engine.forward_backward, []

    def step(*arguments: Any) -> Any:
        drawn.append(draw())
        return real(*arguments)

    monkeypatch.setattr(engine, "forward_backward", step)
    data = [*write_dataset(tmp_path / "data"), "train.evaluate_every=0", "train.save_every=1"]
    for iterations in (4, 2, 4):
        output = tmp_path / ("straight" if not drawn else "resumed")
        engine.train(tiny_config(data, f"train.iterations={iterations}"), output, resume=True, device="cpu")
    straight, resumed = drawn[:4], drawn[4:]
    # The interrupted run draws more in its evaluation and its end than the straight one at that place; but the
    # checkpoint was written before.
    assert resumed == straight
