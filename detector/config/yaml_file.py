"""YAML files of settings as plain data: nothing in them is ever run, and what they stand for is bounded.

Python's own tags, which `yaml.dump` writes for tuples and for mappings such as detectron2's `CfgNode`, are read as the
lists and mappings that they hold; tags that call something are refused by name. Numbers that YAML 1.1 reads in a way
that nobody expects (`010` as 8, `1:30` as 90) stay text, as written, and so do all keys.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from detector.config.limits import ConfigError
from detector.errors import UserError
from detector.printing import printable
from detector.regular_file import read_regular

MAX_BYTES = 2**18
MAX_DEPTH = 40  # of lists and mappings within one another
MAX_VALUES = 50_000  # with every alias written out
_YAML = "tag:yaml.org,2002:"
_PYTHON = f"{_YAML}python/"
_NO_NAMES = tuple(f"{_YAML}{kind}" for kind in ("bool", "int", "float", "null", "timestamp"))
_SURPRISING = re.compile(r"[-+]?0[0-9_]+|.*:.*")


def read_yaml(path: Path) -> dict[Any, Any]:
    """The mapping that a YAML file holds; empty for an empty file.

    Raises:
        ConfigError: one sentence with file and, where there is one, line: not there, not text, not YAML, too large, too
            deep, circular, a key given twice, a tag that calls something, or no mapping.
    """
    try:
        text = read_regular(path, "config", MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file; a config is YAML in UTF-8.") from None
    except UserError as error:
        raise ConfigError(str(error)) from None
    values = parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a config is a mapping of settings, not a {type(values).__name__}.")
    return values


def parse_yaml(text: str, source: str) -> Any:
    """The plain data that a YAML text stands for.

    Args:
        source: the file's name, for messages.

    Raises:
        ConfigError: as `read_yaml`.
    """
    try:
        loader = _PlainLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, {})
        return loader.construct_document(node)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid YAML ({printable(' '.join(str(error).split()), 300)}).") from None


def _check(node: yaml.Node, done: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node stands for, aliases written out, and how deep. Raises ConfigError for too many."""
    if isinstance(node, yaml.ScalarNode):
        return 1, 1
    if id(node) in done:
        count, depth = done[id(node)]
        if depth == 0:
            raise ConfigError(f"{_line(node)}: refers to itself.")
        return count, depth
    done[id(node)] = (0, 0)  # of one that is not finished
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    counts = [_check(child, done) for child in children]
    count = 1 + sum(c for c, _ in counts)
    depth = 1 + max((d for _, d in counts), default=0)
    if count > MAX_VALUES or depth > MAX_DEPTH:
        raise ConfigError(f"{_line(node)}: stands for more than {MAX_VALUES} values or {MAX_DEPTH} levels.")
    done[id(node)] = (count, depth)
    return count, depth


def _check_keys(node: yaml.MappingNode) -> None:
    seen: dict[tuple[str, str], yaml.Node] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            first = seen.setdefault((key.tag, key.value), key)
            if first is not key:
                raise ConfigError(
                    f"{printable(key.value, 80)} is given twice, in lines {_place(first)} and {_place(key)}; keep one."
                )


def _place(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark else 0


def _line(node: yaml.Node) -> str:
    return f"line {_place(node)}"


def _number(loader: Any, node: yaml.ScalarNode) -> Any:
    if _SURPRISING.fullmatch(node.value):
        return node.value
    is_float = node.tag.endswith("float")
    return loader.construct_yaml_float(node) if is_float else loader.construct_yaml_int(node)


def _list(loader: Any, node: yaml.Node) -> Any:
    return loader.construct_sequence(node, deep=True)


def _object(loader: Any, _suffix: str, node: yaml.Node) -> Any:
    """What an object that `yaml.dump` wrote holds as a mapping or a list; its class is not looked at."""
    if not isinstance(node, yaml.MappingNode):
        return _list(loader, node)
    content: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    if content.keys() <= {"args", "kwds", "state", "dictitems", "listitems"}:
        return content.get("dictitems", content.get("listitems", {}))
    # Of an empty CfgNode yaml.dump writes its attributes alone (`__immutable__` and the like), which are no settings.
    return {key: value for key, value in content.items() if not str(key).startswith("__")}


def _refuse(_loader: Any, suffix: str, node: yaml.Node) -> Any:
    raise ConfigError(
        f"{_line(node)}: refused, it wants Python's {printable(suffix, 80)}, and settings are plain data; nothing was "
        "run."
    )


class _PlainLoader(yaml.SafeLoader):
    """YAML's plain types, Python's containers as such, and nothing that calls anything."""

    yaml_constructors: ClassVar[dict[Any, Any]] = {
        **yaml.SafeLoader.yaml_constructors,
        f"{_YAML}int": _number,
        f"{_YAML}float": _number,
        **{f"{_PYTHON}{kind}": _number for kind in ("int", "long", "float")},
        **{f"{_PYTHON}{kind}": _list for kind in ("tuple", "list")},
        **{f"{_PYTHON}{kind}": yaml.SafeLoader.construct_yaml_str for kind in ("str", "unicode")},
        f"{_PYTHON}dict": yaml.SafeLoader.construct_yaml_map,
        f"{_PYTHON}bool": yaml.SafeLoader.construct_yaml_bool,
        f"{_PYTHON}none": yaml.SafeLoader.construct_yaml_null,
    }
    yaml_multi_constructors: ClassVar[dict[Any, Any]] = {
        f"{_PYTHON}object:": _object,
        f"{_PYTHON}object/new:": _object,
        **{f"{_PYTHON}{kind}:": _refuse for kind in ("object/apply", "name", "module")},
    }
    _depth = 0

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping as the base class reads it, but for its keys, which are names: `yes` and `010` stay as written."""
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag in _NO_NAMES:
                key.tag = f"{_YAML}str"
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node as the base class does, but not deeper than `MAX_DEPTH`."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ConfigError(f"nested more than {MAX_DEPTH} deep; settings are not.")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node
