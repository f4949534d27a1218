"""mmdetection's configs read as values. They are Python files, and nothing of them is run.

What mmdetection leaves in a run's `work_dir`, and stores in its checkpoints, is made of `name = value` lines alone, and
those are read. The configs of its repository are programs over other files, which is said, with the remedy.
"""

import ast
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.config.yaml_file import read_yaml
from detector.errors import UserError, one_line
from detector.printing import printable
from detector.regular_file import read_regular

Values = Mapping[str, Any]

MAX_BYTES = 2**20
MAX_DEPTH = 60  # of lists and mappings within one another
REMEDY = "give the dumped one, which training leaves in its work_dir (or print_config.py writes)"
_NUMBERS = {"inf": float("inf"), "nan": float("nan")}


def read_mmdetection_config(path: Path) -> dict[str, Any]:
    """The settings of a dumped config: `.py`, `.json`, or YAML.

    Raises:
        UserError: one sentence naming the file and the line: not there, no text, or a program and not values.
    """
    if path.suffix not in (".py", ".json"):
        return read_yaml(path)
    try:
        text = read_regular(path, "config", MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; {REMEDY}.") from None
    return parse_mmdetection_config(text, str(path)) if path.suffix == ".py" else _parse_json(text, path)


def parse_mmdetection_config(text: str, source: str) -> dict[str, Any]:
    """The values of a config's `name = value` lines, by name.

    Args:
        text: Python, of which only literals, `dict(…)`, lists and tuples are read.
        source: the file's name, for messages.

    Raises:
        UserError: it holds anything else: a call, a name, an import, a `_base_`; with its line and the remedy.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{source}: {len(text)} characters are too many for a config.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts
            module = ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise UserError(f"{source}: not a config of mmdetection ({one_line(error)}); {REMEDY}.") from None
    values: dict[str, Any] = {}
    try:
        for statement in module.body:
            _read_statement(statement, values)
    except _NoValueError as error:
        raise UserError(
            f"{source}: line {error.line} {error}; a config is read as values, and nothing of it is run: {REMEDY}."
        ) from None
    if "_base_" in values:
        raise UserError(f"{source}: is written over other files (_base_), which are not read; {REMEDY}.")
    return values


class _NoValueError(ValueError):
    """A piece of the text is not a value. The message is a clause about its line."""

    def __init__(self, node: ast.AST, what: str) -> None:
        super().__init__(what)
        self.line = getattr(node, "lineno", 0)


def _parse_json(text: str, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({one_line(error)}).") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a config is a mapping of settings, not a {type(values).__name__}.")
    return values


def _read_statement(statement: ast.stmt, into: dict[str, Any]) -> None:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            into[name] = _value(value, 0)
        case ast.Expr(value=ast.Constant()):  # a text that describes the file
            pass
        case ast.Expr(value=ast.Dict() as mapping):  # how a config is dumped whose names Python could not have
            into.update(_value(mapping, 0))
        case _:
            raise _NoValueError(statement, _kind(statement))


def _value(node: ast.expr, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _NoValueError(node, f"is nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.List(elts=items):
            return [_value(item, depth + 1) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, depth + 1) for item in items)
        case ast.Dict(keys=keys, values=values):
            return {_key(k, node, depth): _value(v, depth + 1) for k, v in zip(keys, values, strict=True)}
        case ast.Call(func=ast.Name(id="dict"), args=arguments, keywords=keywords) if len(arguments) <= 1:
            return _dict(arguments, keywords, depth)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _value(operand, depth + 1)
            if isinstance(value, int | float):
                return -value
        case ast.Name(id=name) if name in _NUMBERS:
            return _NUMBERS[name]
    raise _NoValueError(node, _kind(node))


def _dict(arguments: list[ast.expr], keywords: list[ast.keyword], depth: int) -> dict[Any, Any]:
    """`dict(name=value, …)`, also over a mapping whose keys are no names."""
    result: dict[Any, Any] = {}
    for argument in arguments:
        if not isinstance(argument, ast.Dict):
            raise _NoValueError(argument, "makes a dict of something else than a mapping")
        result |= _value(argument, depth + 1)
    for keyword in keywords:
        if keyword.arg is None:
            raise _NoValueError(keyword.value, "unpacks a mapping")
        result[keyword.arg] = _value(keyword.value, depth + 1)
    return result


def _key(node: ast.expr | None, around: ast.expr, depth: int) -> Any:
    key = None if node is None else _value(node, depth + 1)
    if not isinstance(key, str | int | float):
        raise _NoValueError(around, "has a mapping whose keys are not texts or numbers")
    return key


def _kind(node: ast.AST) -> str:
    """What a piece of a program does, as the end of `line 3 …`."""
    match node:
        case ast.Call(func=function):
            return f"calls {_dotted(function)}(…)"
        case ast.Name() | ast.Attribute():
            return f"uses the name {_dotted(node)}"
        case ast.Import() | ast.ImportFrom():
            return "imports something"
    return f"holds {'a statement' if isinstance(node, ast.stmt) else 'an expression'} ({type(node).__name__})"


def _dotted(node: ast.AST) -> str:
    """`os.system`, as far as it is made of names."""
    names: list[str] = []
    while isinstance(node, ast.Attribute) and len(names) < 5:
        names.append(node.attr)
        node = node.value
    names.append(node.id if isinstance(node, ast.Name) else "…")
    return printable(".".join(reversed(names)), 80)
