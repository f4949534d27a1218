"""The recipes that come with the project, by name: `configs/` of a clone, `recipes/` inside an installed package."""

import difflib
from pathlib import Path

from detector.config.limits import ConfigError
from detector.errors import one_line

PACKAGE = Path(__file__).resolve().parents[1]


def recipe_folder() -> Path:
    """Where the recipes are: one YAML file each. The wheel has a copy of what a clone has in `configs/`."""
    installed = PACKAGE / "recipes"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def recipe_names() -> list[str]:
    """The names of all recipes, sorted; empty where the package was copied without them."""
    return sorted(path.stem for path in recipe_folder().glob("*.yaml"))


def find_config(config: str | Path) -> Path:
    """The file of a config that is named by its path or, where there is no such file, by a recipe's name.

    Args:
        config: a path; or `r50c4_bccd`, `r50c4_bccd.yaml` or `configs/r50c4_bccd.yaml`, from any folder.

    Raises:
        ConfigError: there is neither; the nearest recipe is named.
    """
    path = Path(config).expanduser()
    if path.exists():
        return path
    name = path.name.removesuffix(".yaml")
    if path.parent in (Path(), Path("configs")) and name in recipe_names():
        return recipe_folder() / f"{name}.yaml"
    near = difflib.get_close_matches(name, recipe_names(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"recipes are {', '.join(recipe_names())}."
    raise ConfigError(f"{one_line(config)}: cannot read the config (no such file, and no recipe of that name); {hint}")


def is_installed_recipe(path: Path) -> bool:
    """Whether a config lies inside the installed package, where its data cannot be."""
    return path.resolve().is_relative_to(PACKAGE)
