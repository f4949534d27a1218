"""Whose config a file is, seen by its sections: one that belongs to other weights is told apart in one sentence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from detector.config.yaml_file import read_yaml
from detector.errors import UserError

Maker = Literal["detectron2", "mmdetection", "this project"]
REMEDIES: Mapping[Maker, str] = {
    "detectron2": "give the config.yaml that detectron2 wrote beside it",
    "mmdetection": "leave --config out, or give the config that mmdetection left in its work_dir",
    "this project": "leave --config out, or give a config of this project",
}
OUR_SECTIONS = {"base", "model", "input", "data", "train"}


def require_config_of(maker: Maker, config_path: Path | None, where: str, holds: str) -> None:
    """Raise UserError where a config is plainly of another make than the weights need.

    Args:
        maker: whose config they need.
        config_path: the config; None, or one that cannot be read, passes here.
        where: the weights' file, and what it `holds`, for the message.
    """
    given = None if config_path is None else config_maker(config_path)
    if given not in (None, maker):
        raise UserError(f"{config_path}: is a config of {given}, and {where} holds {holds}; {REMEDIES[maker]}.")


def config_maker(path: Path) -> Maker | None:
    """Whose config this is; None where it is not a file, cannot be read, or does not say."""
    if not path.is_file():
        return None
    if path.suffix in (".py", ".json"):
        return "mmdetection"
    try:
        content = read_yaml(path)
    except UserError:
        return None
    model = content.get("model")
    if any(key in content for key in ("MODEL", "_BASE_", "SOLVER", "DATASETS")):
        return "detectron2"
    if isinstance(model, Mapping) and "type" in model:
        return "mmdetection"
    return "this project" if content and content.keys() <= OUR_SECTIONS else None
