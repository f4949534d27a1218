"""The rooms of the package stand on floors: each imports from those below, and no files import in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

# From the top. A room is a folder of the package, or a file beside the folders. Imports in functions and for types
# count too.
FLOORS = (
    {"__init__"},
    {"__main__", "python"},
    {"commands"},
    {"serving", "training"},
    {"inference"},
    {"export"},
    {"evaluation", "weights", "fast"},
    {"datasets", "model"},
    {"drawing", "config", "download", "process_group"},
    {"command", "categories", "disk", "regular_file", "device", "arithmetic"},
    {"errors", "boxes"},
    {"printing", "structures", "version", "opencv"},
)


@pytest.fixture(scope="module")
def imports(project_root: Path) -> dict[str, set[str]]:
    """Each module of the package, by its path without suffix, and those that it imports."""
    package = project_root / "detector"
    modules = {str(path.relative_to(package).with_suffix("")): path for path in package.rglob("*.py")}
    return {
        name: {found for node in ast.walk(ast.parse(path.read_text())) for found in imported(node, modules)} - {name}
        for name, path in modules.items()
    }


def imported(node: ast.AST, modules: dict[str, Path]) -> set[str]:
    """The modules of the package that an import statement names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        if "detector" in names:
            return {"__init__"}
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return set()
    places = [name.removeprefix("detector.").split(".") for name in names if name.startswith("detector.")]
    paths = ["/".join(place[:length]) for place in places for length in (len(place), len(place) - 1) if length]
    return {found for path in paths for found in (path, f"{path}/__init__") if found in modules}


def floor(module: str) -> int:
    (number,) = (number for number, rooms in enumerate(FLOORS) if module.split("/")[0] in rooms)
    return number


def test_no_arrow_runs_upwards(imports: dict[str, set[str]]) -> None:
    upwards = [(name, used) for name, all_used in imports.items() for used in all_used if floor(used) < floor(name)]
    assert upwards == []
    across = [
        (name, used)
        for name, all_used in imports.items()
        for used in all_used
        if floor(used) == floor(name) and used.split("/")[0] != name.split("/")[0]
    ]
    assert across == []


def test_no_files_import_each_other_in_a_circle(imports: dict[str, set[str]]) -> None:
    assert len(imports) > 200
    # A room's __init__ gathers names of its files, and they do not count as importing it.
    files = {name: {u for u in used if not u.endswith("__init__")} for name, used in imports.items()}
    TopologicalSorter(files).prepare()
