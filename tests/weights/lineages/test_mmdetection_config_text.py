"""mmdetection's configs: what is dumped is read as values, and a program is refused with its line, unrun."""

import json
import time
from pathlib import Path

import pytest

from detector.errors import UserError
from detector.weights.lineages.mmdetection_config_text import (
    MAX_BYTES,
    parse_mmdetection_config,
    read_mmdetection_config,
)

DUMPED = """'''made by hand'''
a = 1
b = -0.5
c = None
model = dict(
    backbone=dict(depth=50, out_indices=(0, 1, ), style='pytorch', frozen=True),
    odd=dict({'x.y': [1, dict(z='é')], 3: inf}),
    neck=None)
"""
VALUES = {
    "a": 1,
    "b": -0.5,
    "c": None,
    "model": {
        "backbone": {"depth": 50, "out_indices": (0, 1), "style": "pytorch", "frozen": True},
        "odd": {"x.y": [1, {"z": "é"}], 3: float("inf")},
        "neck": None,
    },
}


def test_a_dumped_config_is_its_values() -> None:
    assert parse_mmdetection_config(DUMPED, "config.py") == VALUES
    assert parse_mmdetection_config("{'a.b': dict(c=1)}", "config.py") == {"a.b": {"c": 1}}


def test_files_of_each_form(tmp_path: Path) -> None:
    values = {"model": {"depth": 50, "lr": 1e-05, "scale": [1333, 800]}}
    (tmp_path / "c.json").write_text(json.dumps(values))
    (tmp_path / "c.yaml").write_text("model:\n  depth: 50\n  lr: 1.0e-05\n  scale: !!python/tuple\n  - 1333\n  - 800\n")
    (tmp_path / "c.py").write_text("model = dict(depth=50, lr=1e-05, scale=[1333, 800])")
    for name in ("c.json", "c.yaml", "c.py"):
        assert read_mmdetection_config(tmp_path / name) == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\nb = os.system('touch canary')", r"line 2 calls os\.system\(…\)"),
        ("a = dict(b=[getattr(x, 'y')])", r"line 1 calls getattr\(…\)"),
        ("a = __import__('os').system('touch canary')", r"line 1 calls …\.system\(…\)"),
        ("import os", "line 1 imports something"),
        ("from mmengine.config import read_base", "line 1 imports something"),
        ("a = 1\nb = a", "line 2 uses the name a"),
        ("a = dict(**b)", "line 1 unpacks a mapping"),
        ("a = dict([(1, 2)])", "line 1 makes a dict of something else"),
        ("a = {**b}", "line 1 has a mapping whose keys"),
        ("a = f'{open(1)}'", r"line 1 holds an expression \(JoinedStr\)"),
        ("a = 'x' * 10 ** 10", r"line 1 holds an expression \(BinOp\)"),
        ("a = (lambda: 1)()", r"line 1 calls …\(…\)"),
        ("for i in range(3):\n    pass", r"line 1 holds a statement \(For\)"),
        ("a = b'x'", r"line 1 holds an expression \(Constant\)"),
        ("_base_ = ['../_base_/x.py']\nmodel = dict(depth=50)", r"is written over other files \(_base_\)"),
        ("a = (", "not a config of mmdetection"),
        ("a = 1" + "0" * 10_000, "not a config of mmdetection"),
        ("x" * (MAX_BYTES + 1), "characters are too many"),
    ],
)
def test_a_program_is_refused_with_its_line(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^config\.py: .*{said}") as error:
        parse_mmdetection_config(text, "config.py")
    assert len(str(error.value)) < 400
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("piece", ["[", "(", "-", "{1:", "a.", "dict(a=", "a=", "not ", "f(", "x if "])
def test_what_is_nested_without_end_is_refused_in_no_time(piece: str) -> None:
    began = time.process_time()
    with pytest.raises(UserError, match=r"not a config of mmdetection|nested more than|line 1"):
        parse_mmdetection_config("a = " + piece * 20_000 + "1", "config.py")
    assert time.process_time() - began < 5


def test_configs_recorded_from_mmdetection(shared: Path) -> None:
    """Each is read whole, and what a checkpoint stores beside its weights is the same."""
    from detector.weights.untrusted.foreign_file import read_foreign

    files = sorted((shared / "fixtures" / "mmdetection").glob("*/config.py"))
    assert files
    for path in files:
        values = read_mmdetection_config(path)
        meta = read_foreign(path.with_name("checkpoint.pth")).meta
        stored = parse_mmdetection_config(meta.get("cfg") or meta["config"], str(path))
        assert stored["model"] == values["model"]
        assert values["model"]["type"] == "FasterRCNN"
