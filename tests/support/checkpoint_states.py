"""States of training to write as checkpoints, and what is done to their files."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from detector.categories import CategoryMap
from detector.config import Config, ModelConfig
from detector.datasets.fingerprint import Fingerprint
from detector.training.state.checkpoint import TrainingState
from detector.training.state.progress import Progress
from detector.training.state.random_state import random_states

FILES = ["averaged.safetensors", "manifest.json", "model.safetensors", "momentum.safetensors", "progress.json"]


def make_state(iteration: int, size: int = 5) -> TrainingState:
    """A state whose numbers depend on the iteration; `size`: rows of its one large tensor."""
    generator = torch.Generator().manual_seed(iteration)
    weights = {
        "backbone.conv1.weight": torch.randn(size, 3, 7, 7, generator=generator).to(memory_format=torch.channels_last),
        "backbone.norm1.num_batches_tracked": torch.tensor(iteration),
    }
    return TrainingState(
        config=Config(model=ModelConfig(num_classes=2)),
        categories=CategoryMap.from_names(["cat", "dog"]),
        world_size=2,
        progress=Progress(iteration=iteration, images=16 * iteration, seconds=1.5, best_ap=0.25, best_iteration=3),
        model=weights,
        averaged={k: v + 1 for k, v in weights.items()},
        momentum={"backbone.conv1.weight": weights["backbone.conv1.weight"] * 0.1},
        random=random_states(),
        unreported=[{"sums": {"rpn_box": 0.1}, "counted": 1}],
        annotations={"train": Fingerprint(10, 30, "ab")},
    )


def assert_equal(found: TrainingState, expected: TrainingState) -> None:
    """Assert that two states are the same in everything."""
    assert found.config == expected.config
    assert found.categories == expected.categories
    assert found.world_size == expected.world_size
    assert found.progress == expected.progress
    assert found.random == expected.random
    assert found.unreported == expected.unreported
    assert found.annotations == expected.annotations
    for name in ("model", "averaged", "momentum"):
        first, second = getattr(found, name), getattr(expected, name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[k], second[k]) for k in first)


def rewrite(path: Path, progress: dict[str, Any]) -> None:
    """Change progress.json and make the manifest agree."""
    data = json.dumps(progress).encode()
    (path / "progress.json").write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"]["progress.json"] = hashlib.sha256(data).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
