"""What travels with the project is what was recorded, number for number, and small."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2_cases import EMBEDDED, checkpoints, folders_with, recorded

from detector.datasets.pictures.read import read_image
from detector.weights.untrusted.foreign_file import read_foreign

MAX_BYTES = 4_000_000


@pytest.fixture(scope="module")
def whole() -> Path:
    folder = recorded()
    if folder is None:
        pytest.skip("the whole record is not at hand; set DETECTOR_SHARED to run this test")
    return folder


def embedded(pattern: str) -> list[Path]:
    return sorted(path.relative_to(EMBEDDED) for path in EMBEDDED.rglob(pattern))


def test_all_of_it_stays_small() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED.parent.rglob("*") if path.is_file()) <= MAX_BYTES


def test_a_network_training_and_units_are_there() -> None:
    """Without any of these, parity would be shown by nothing in a clone of its own."""
    assert EMBEDDED / "r50_w6_c6" in folders_with("config.yaml", "model.*", "case_*.npz")
    assert (EMBEDDED.parent / "mmdetection/v2_r50_fpn_w4_c7/case_coffee.npz").is_file()
    assert any(folder.is_relative_to(EMBEDDED) for folder in folders_with("losses.json", "steps.json", "all.npz"))
    assert (EMBEDDED / "units.npz").is_file()


@pytest.mark.parametrize("path", embedded("*.npz"), ids=str)
def test_arrays_are_the_recorded_ones_or_their_first_rows(path: Path, whole: Path) -> None:
    with np.load(EMBEDDED / path) as ours, np.load(whole / path) as theirs:
        assert set(ours.files) <= set(theirs.files)
        for name in ours.files:
            expected = theirs[name][: len(ours[name])] if ours[name].ndim else theirs[name]
            assert ours[name].dtype == expected.dtype, name
            assert len(ours[name]) > 0 or len(expected) == 0, name
            np.testing.assert_array_equal(ours[name], expected, err_msg=name)


@pytest.mark.parametrize("path", embedded("model.*") + embedded("backbone.*"), ids=str)
def test_weights_are_the_recorded_ones(path: Path, whole: Path) -> None:
    """Whatever form of file they were saved in."""
    ours, theirs = read_foreign(EMBEDDED / path).tensors, read_foreign(weights_of(whole / path.parent)).tensors
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def weights_of(folder: Path) -> Path:
    return [*checkpoints(folder), *folder.glob("backbone.*")][-1]


@pytest.mark.parametrize("path", embedded("*.png"), ids=str)
def test_pictures_are_the_recorded_ones(path: Path, whole: Path) -> None:
    ours, theirs = (read_image((root / path).read_bytes()) for root in (EMBEDDED, whole))
    np.testing.assert_array_equal(ours, theirs)
