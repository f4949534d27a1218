"""Recipes by name: from a clone, from an installed package, and where a path is meant."""

from pathlib import Path

import pytest

from detector.config import ConfigError, load_config, project_root, recipes
from detector.config.recipes import find_config, recipe_folder, recipe_names


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def installed(empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with recipes inside it, as the wheel lays it out."""
    package = empty / "site-packages" / "detector"
    (package / "recipes").mkdir(parents=True)
    (package / "recipes" / "base.yaml").write_text("data: {train_images: data/mine}")
    (package / "recipes" / "mine.yaml").write_text("base: base.yaml")
    monkeypatch.setattr(recipes, "PACKAGE", package)
    return package


def test_every_recipe_loads_by_its_name(empty: Path, project_root: Path) -> None:  # noqa: ARG001
    assert "quickstart" in recipe_names()
    for name in recipe_names():
        expected = load_config(project_root / "configs" / f"{name}.yaml")
        for spelling in (name, f"{name}.yaml", f"configs/{name}.yaml"):
            assert load_config(spelling) == expected


def test_a_file_of_that_name_is_meant_first(empty: Path) -> None:
    (empty / "quickstart").write_text("train: {seed: 7}")
    assert load_config("quickstart").train.seed == 7
    assert find_config("quickstart.yaml") == recipe_folder() / "quickstart.yaml"


def test_data_of_an_installed_recipe_start_at_the_current_folder(empty: Path, installed: Path) -> None:
    assert recipe_names() == ["base", "mine"]
    assert find_config("mine") == installed / "recipes" / "mine.yaml"
    assert project_root(installed / "recipes" / "mine.yaml") == empty
    assert load_config("mine").data.train_images == str(empty / "data/mine")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("quickstat", "did you mean quickstart"),
        ("xyz", "recipes are quickstart, "),
        ("other/quickstart.yaml", "did you"),
    ],
)
def test_what_is_no_config(empty: Path, name: str, hint: str) -> None:  # noqa: ARG001
    with pytest.raises(ConfigError, match=rf"{name}: cannot read the config \(no such file.*\); {hint}"):
        load_config(name)
