"""YAML is plain data: what `yaml.dump` writes of Python's containers is read, what calls something is refused."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.config import ConfigError
from detector.config.yaml_file import MAX_BYTES, parse_yaml, read_yaml

# As detectron2's `cfg.dump()` is not, and `yaml.dump(cfg)` is.
DUMPED = """\
!!python/object/new:detectron2.config.config.CfgNode
dictitems:
  MODEL: !!python/object/new:fvcore.common.config.CfgNode
    dictitems:
      PIXEL_MEAN: &id001
      - 103.53
      - 116.28
      ANCHORS: !!python/tuple
      - !!python/tuple [32, 64]
      AGAIN: *id001
      NAME: !!python/unicode 'GeneralizedRCNN'
    state: &id002
      __deprecated_keys__: !!set {}
      __immutable__: false
  EMPTY: !!python/object/new:fvcore.common.config.CfgNode
    state: *id002
  OLD: !!python/object:yacs.config.CfgNode {A: 1}
  LIST: !!python/object/new:some.List {listitems: [1, 2]}
state: *id002
"""


def test_what_yaml_dump_writes_of_containers_is_read_as_plain_data() -> None:
    assert parse_yaml(DUMPED, "config.yaml") == {
        "MODEL": {
            "PIXEL_MEAN": [103.53, 116.28],
            "ANCHORS": [[32, 64]],
            "AGAIN": [103.53, 116.28],
            "NAME": "GeneralizedRCNN",
        },
        "EMPTY": {},
        "OLD": {"A": 1},
        "LIST": [1, 2],
    }


class Node(dict[str, Any]):
    """Pickles as detectron2's CfgNode does: a mapping with attributes."""

    def __init__(self, **items: Any) -> None:
        super().__init__(**items)
        self.__dict__["__immutable__"] = False


def test_what_the_real_yaml_dump_writes_is_read() -> None:
    written = yaml.dump(Node(A=Node(B=(1, (2, 3))), C=Node()))
    assert "python/object" in written
    assert parse_yaml(written, "config.yaml") == {"A": {"B": [1, [2, 3]]}, "C": {}}


def refusal(read: Callable[[], object]) -> str | None:
    """What is said, or None where it is read."""
    try:
        read()
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch canary']",
        "a: !!python/object/apply:subprocess.Popen [[touch, canary]]",
        "a: !!python/object/new:os.system ['touch canary']",
        "a: !!python/object/new:dict {state: {b: !!python/object/apply:os.system ['touch canary']}}",
        "a: !!python/name:os.system",
        "a: !!python/module:canary",
        "? !!python/object/apply:os.system ['touch canary']\n: 1",
    ],
)
def test_nothing_is_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canary.py").write_text("open('canary', 'w')")
    said = refusal(lambda: parse_yaml(text, "c.yaml"))
    if "object/new:os" in text:
        assert parse_yaml(text, "c.yaml") == {"a": ["touch canary"]}, "inert: read as the list that it holds"
    else:
        assert said is not None
        assert said.startswith("c.yaml: line 1: refused, it wants Python's ")
    assert not (tmp_path / "canary").exists()


LAUGHS = "\n".join(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9))
CHAIN = "\n".join(f"- &a{i} [*a{i - 1}]" for i in range(1, 900))
BOMBS = {
    "laughs": f"- &a0 [{', '.join('x' * 10)}]\n{LAUGHS}\n",
    "chain": f"- &a0 [x]\n{CHAIN}\n",
    "mapping": "a: &a {" + ", ".join(f"k{i}: 1" for i in range(300)) + "}\nb: [" + ", ".join(["*a"] * 300) + "]\n",
    "circle": "a: &a [1, *a]\n",
    "deep": "[" * 5000,
    "dashes": "- " * 5000,
    "braces": "{a: " * 5000,
    "many keys": "".join(f"k{i}: {i}\n" for i in range(60_000))[: MAX_BYTES - 10],
    "large": "# " + "x" * MAX_BYTES,
    "quotes": 'a: "' + "\\x41" * 60_000 + '"\n',
    "anchors": "".join(f"k{i}: &a{i} [1]\n" for i in range(15_000)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_a_file_stands_for_is_bounded(tmp_path: Path, name: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(BOMBS[name])
    began = time.process_time()
    said = refusal(lambda: read_yaml(path))
    if said is None:
        assert name in ("quotes", "many keys"), "these are as they look"
    else:
        assert "c.yaml: " in said
        assert len(said) < 500
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", "1e-4"), ("0.5", 0.5), ("0", 0), ("-3", -3), ("0x1f", 31), ("1_000", 1000), (".inf", float("inf"))],
)
def test_numbers(text: str, value: object) -> None:
    assert parse_yaml(f"a: {text}", "c.yaml") == {"a": value}


@pytest.mark.parametrize("text", ["010", "-010", "1:30", "00", "12:30:45", "1:30.5"])
def test_numbers_that_nobody_expects_stay_text(text: str) -> None:
    assert parse_yaml(f"a: {text}", "c.yaml") == {"a": text}


def test_a_key_is_given_once() -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml: b is given twice, in lines 2 and 4; keep one\."):
        parse_yaml("a:\n  b: 1\n  c: 2\n  b: 3\n", "c.yaml")
    assert parse_yaml("x: &x {b: 1}\na: {<<: *x, b: 2}\n", "c.yaml")["a"] == {"b": 2}, "a merge is overridden"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match=r"c\.yaml: is a named pipe and not a file; give the config file\."):
        read_yaml(tmp_path / "c.yaml")
