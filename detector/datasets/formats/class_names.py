"""The class names of YOLO trees, as they are written: `yes`, `010` and `12:30` are names, whatever else YAML makes of
them."""

from pathlib import Path

import yaml

from detector.categories import CategoryMap
from detector.datasets.formats.other_formats import refuse_other
from detector.datasets.formats.text_files import lines_of, read_text
from detector.errors import UserError, shown

_NAME_FILES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names", "_darknet.labels")
_NO_NAMES = (".json", ".jsonl", ".xml", ".csv", ".tsv", ".html", ".md", ".py")
_EXAMPLE = "list them as names: [first, second, …], numbered from 0"

# (points, numbers a point) of a pose; (0, 0): the file says that there are none.
KeypointShape = tuple[int, int]


def find_class_file(source: Path) -> Path:
    """A file of class names: the given one, or else the nearest known one of a folder and the three above it.

    Raises:
        UserError: there is no such file or folder, or no class names.
    """
    if source.is_file():
        return source
    if not source.is_dir():
        raise UserError(f"{source}: no such file or folder. Check the path.")
    for folder in (source.resolve(), *source.resolve().parents[:3]):
        for name in _NAME_FILES:
            if (folder / name).is_file():
                return folder / name
        others = [path for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".yml", ".names")]
        named = [path for path in others if path.suffix == ".names" or _has_names(path)]
        if len(named) == 1:
            return named[0]
    raise UserError(f"{source}: found no class names; put a data.yaml or classes.txt into the folder, or above it.")


def _has_names(path: Path) -> bool:
    """Whether a YAML file has a list of names at the beginning of a line."""
    try:
        return any(line.startswith("names:") for line in lines_of(read_text(path)))
    except UserError:
        return False


def read_classes(path: Path, lists: bool = False) -> tuple[CategoryMap, KeypointShape | None]:
    """The class names that a file lists, and the shape of its keypoints where it states one.

    Args:
        lists: one of its lists of pictures is read, or only its names; else a file whose splits are lists is refused.

    Raises:
        UserError: the file cannot be read, or has no names that are sound.
    """
    other = refuse_other(path)
    if other is not None or path.suffix.lower() in _NO_NAMES:
        raise UserError(
            other
            or f"{path}: is neither a YAML file nor a list of class names; give data.yaml, classes.txt or the folder "
            "of label files."
        )
    text = read_text(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        names = [line.strip() for line in lines_of(text) if line.strip()]
        if not names:
            raise UserError(f"{path}: has no class names; write one per line.")
        return CategoryMap.from_names(names), None
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())}). Correct it.") from None
    entries = _entries(document, path) if isinstance(document, yaml.MappingNode) else {}
    if "names" not in entries:
        raise UserError(f"{path}: has no class names; {_EXAMPLE}.")
    if not lists:
        _refuse_lists(entries, path)
    names = _names(entries["names"], path)
    count = entries.get("nc")
    if isinstance(count, yaml.ScalarNode) and count.value.strip() not in ("", str(len(names))):
        raise UserError(f"{path}: nc is {shown(count.value)}, but it has {len(names)} names. Correct one of them.")
    return CategoryMap.from_names(names), _keypoint_shape(entries.get("kpt_shape"), path)


def _entries(node: yaml.MappingNode, path: Path) -> dict[str, yaml.Node]:
    """The entries of a mapping by their keys as they are written."""
    entries: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{path}: a key is a list or mapping, not text. Correct it.")
        if key.value in entries:
            raise UserError(f"{path}: {shown(key.value)} is there twice. Remove one of them.")
        entries[key.value] = value
    return entries


def _refuse_lists(entries: dict[str, yaml.Node], path: Path) -> None:
    """A split that is a list of pictures must be given as that list, or all pictures of the folder would be read."""
    for split in ("train", "val", "test"):
        node = entries.get(split)
        if isinstance(node, yaml.ScalarNode) and node.value.strip().lower().endswith(".txt"):
            raise UserError(
                f"{path}: its {split} split is a list of pictures; give {node.value.strip()} itself as the annotations."
            )
        words = [entry.value for entry in node.value] if isinstance(node, yaml.SequenceNode) else []
        if any(isinstance(word, str) and word.strip().lower().endswith(".txt") for word in words):
            raise UserError(
                f"{path}: its {split} split has lists of pictures among its places; give {path}#{split} as the "
                "annotations."
            )


def _names(node: yaml.Node, path: Path) -> list[str]:
    if isinstance(node, yaml.SequenceNode):
        nodes = list(node.value)
    elif isinstance(node, yaml.MappingNode):
        nodes = _numbered(_entries(node, path), path)
    else:
        raise UserError(f"{path}: names is {shown(node.value)}, not a list of class names; {_EXAMPLE}.")
    if not nodes:
        raise UserError(f"{path}: has no class names; {_EXAMPLE}.")
    for number, entry in enumerate(nodes):
        if not isinstance(entry, yaml.ScalarNode):
            raise UserError(
                f"{path}: the name of class {number} is a list or mapping, not text. Write one name per class."
            )
        if entry.value.strip() in ("", "~"):
            raise UserError(f"{path}: class {number} has no name. Give it one.")
    return [entry.value.strip() for entry in nodes]


def _numbered(entries: dict[str, yaml.Node], path: Path) -> list[yaml.Node]:
    """The values of a mapping from class numbers, which may be text, in their order."""
    if not all(key.strip().isdecimal() for key in entries):
        key, value = next((key, value) for key, value in entries.items() if not key.strip().isdecimal())
        turned = isinstance(value, yaml.ScalarNode) and value.value.strip().isdecimal()
        hint = "it maps names to numbers; write them the other way round" if turned else _EXAMPLE
        raise UserError(f"{path}: names has the key {shown(key)}, which is not a class number; {hint}.")
    numbers = {int(key): value for key, value in entries.items()}
    missing = next((number for number in range(len(numbers)) if number not in numbers), None)
    if len(numbers) < len(entries):
        raise UserError(f"{path}: names has a class number twice. Remove one of them.")
    if missing is not None:
        reason = (
            f"start at {min(numbers)}, and the files count from 0"
            if missing == 0
            else f"go up to {max(numbers)} without {missing}"
        )
        raise UserError(f"{path}: the class numbers of names {reason}. Number them 0, 1, 2, … without gaps.")
    return [numbers[number] for number in range(len(numbers))]


def _keypoint_shape(node: yaml.Node | None, path: Path) -> KeypointShape | None:
    if node is None:
        return None
    if isinstance(node, yaml.ScalarNode) and node.value.strip() in ("", "~", "null"):
        return 0, 0
    words = [entry.value for entry in node.value] if isinstance(node, yaml.SequenceNode) else []
    if len(words) == 2 and all(isinstance(word, str) and word.strip().isdecimal() for word in words):
        points, dimensions = (int(word) for word in words)
        if points < 10_000 and dimensions in (2, 3):
            return points, dimensions
    raise UserError(f"{path}: kpt_shape must be [points, 2] or [points, 3], the second with visibility. Correct it.")
