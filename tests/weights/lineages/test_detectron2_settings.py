"""Reading and writing detectron2's config files."""

import itertools
from pathlib import Path

import pytest

from detector.errors import UserError
from detector.weights.lineages.detectron2_settings import BASE_RCNN_C4, DEFAULTS, nested, read_settings, write_settings


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_dumped_config_is_flattened(references: Path) -> None:
    settings = read_settings(references / "r50_w6_c6/config.yaml")
    assert settings["MODEL.RPN.NMS_THRESH"] == 0.7
    assert settings["MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS"] == [10.0, 10.0, 5.0, 5.0]
    assert settings["DATASETS.TEST"] == ["coco_2017_val"]
    assert set(DEFAULTS) <= set(settings)


def test_defaults_are_detectron2s_own(references: Path) -> None:
    """The dump has every setting; what its recipe and its overrides leave alone is detectron2's default."""
    folder = references / "r50_w6_c6"
    settings = read_settings(folder / "config.yaml")
    changed = {
        *BASE_RCNN_C4,
        "SOLVER.STEPS",
        "SOLVER.MAX_ITER",
        "MODEL.RESNETS.STEM_OUT_CHANNELS",
        "MODEL.RESNETS.WIDTH_PER_GROUP",
        "MODEL.RESNETS.RES2_OUT_CHANNELS",
        "MODEL.ROI_HEADS.NUM_CLASSES",
        "INPUT.MIN_SIZE_TEST",
        "INPUT.MAX_SIZE_TEST",
    }
    assert {key: settings[key] for key in DEFAULTS if key not in changed} == {
        key: value for key, value in DEFAULTS.items() if key not in changed
    }
    recipe = {key: settings[key] for key in BASE_RCNN_C4 if key not in ("SOLVER.STEPS", "SOLVER.MAX_ITER")}
    assert recipe == {key: BASE_RCNN_C4[key] for key in recipe}


def test_texts_are_read_as_python_literals_as_detectron2_does(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", 'A: {B: "(1, 2)", C: 1e-3, D: "(\'x\',)", E: text, F: "__import__(\'os\')"}\n')
    assert read_settings(path) == {"A.B": [1, 2], "A.C": 0.001, "A.D": ["x"], "A.E": "text", "A.F": "__import__('os')"}


def test_lists_within_such_texts_are_lists_too(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", 'A: "((32,), (64,))"\nB: !!python/tuple [[1], !!python/tuple [2]]\n')
    assert read_settings(path) == {"A": [[32], [64]], "B": [[1], [2]]}


def test_base_beside_the_file(tmp_path: Path) -> None:
    write(tmp_path / "Base-RCNN-C4.yaml", "SOLVER: {BASE_LR: 0.5, MAX_ITER: 7}\n")
    path = write(tmp_path / "c.yaml", '_BASE_: "Base-RCNN-C4.yaml"\nSOLVER: {MAX_ITER: 8}\n')
    assert read_settings(path) == {"SOLVER.BASE_LR": 0.5, "SOLVER.MAX_ITER": 8}


def test_known_base_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", '_BASE_: "../Base-RCNN-C4.yaml"\nSOLVER: {MAX_ITER: 8}\n')
    assert read_settings(path) == {**BASE_RCNN_C4, "SOLVER.MAX_ITER": 8}


def test_what_cannot_be_read(tmp_path: Path) -> None:
    cases = {
        '_BASE_: "../Base-RCNN-Mine.yaml"\n': "its _BASE_ ../Base-RCNN-Mine.yaml is not there",
        '_BASE_: "c.yaml"\n': "based on one another",
        "- a\n": "a mapping of settings, not a list",
        "a: [\n": "not valid YAML",
        "!!python/object/apply:os.system [touch x]\n": "refused, it wants Python's os.system",
        "": "the config is empty",
        "\n".join(f"k{i}: {i}" for i in range(6000)): "more than 5000 settings",
        "x" * 2_000_000: "more than 262144 bytes are too many",
    }
    for text, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            read_settings(write(tmp_path / "c.yaml", text))
        assert "\n" not in str(caught.value)
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(UserError, match="not a text file"):
        read_settings(tmp_path / "c.yaml")
    with pytest.raises(UserError, match="cannot read the config"):
        read_settings(tmp_path / "missing.yaml")


@pytest.mark.parametrize("innermost", ["{x: 1, y: 2}", "{}"])
def test_aliases_that_multiply_are_bounded(tmp_path: Path, innermost: str) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    lines = [f"a: &a {innermost}"]
    lines += [f"{b}: &{b} {{l: *{a}, r: *{a}}}" for a, b in itertools.pairwise(letters)]
    with pytest.raises(UserError, match="stands for more than 50000 values"):
        read_settings(write(tmp_path / "c.yaml", "\n".join(lines)))


def test_written_settings_are_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", write_settings(DEFAULTS))
    assert read_settings(path) == dict(DEFAULTS)
    assert nested({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


def test_a_config_that_yaml_dump_wrote_of_the_objects_themselves(tmp_path: Path) -> None:
    """People save `yaml.dump(cfg)` instead of `cfg.dump()`: tags of Python classes all over the file."""
    tag = "!!python/object/new:detectron2.config.config.CfgNode"
    state = "{__deprecated_keys__: !!set {}, __immutable__: false, __new_allowed__: false}"
    (tmp_path / "config.yaml").write_text(
        f"{tag}\ndictitems:\n  MODEL: {tag}\n    dictitems:\n      RPN: {tag}\n"
        f"        dictitems: {{NMS_THRESH: 0.6, IOU_THRESHOLDS: !!python/tuple [0.2, 0.8]}}\n        state: {state}\n"
        f"    state: {state}\n  VERSION: 2\nstate: {state}\n"
    )
    assert read_settings(tmp_path / "config.yaml") == {
        "MODEL.RPN.NMS_THRESH": 0.6,
        "MODEL.RPN.IOU_THRESHOLDS": [0.2, 0.8],
        "VERSION": 2,
    }
