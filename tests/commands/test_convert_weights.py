"""The converting tool: all directions, what it says, and its refusals."""

import json
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from tiny_models import tiny_config

from detector.categories import CategoryMap
from detector.commands.main import main
from detector.errors import UserError
from detector.model.build import build_model
from detector.weights.files import read_weights, save_weights
from detector.weights.resolve import resolve_weights

NAMES = CategoryMap.from_names(["a", "b", "c"])


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    config = tiny_config()
    path = tmp_path / "ours.safetensors"
    save_weights(path, build_model(config).state_dict(), config, NAMES, {"AP": 0.5})
    return path


def run(*words: object) -> None:
    assert main(["convert-weights", *(str(word) for word in words)]) == 0


def test_detectron2_to_ours(references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = references / "r50_w6_c6"
    names = [{"id": 10 * i, "name": f"thing {i}"} for i in range(6, 0, -1)]
    (tmp_path / "a.json").write_text(json.dumps({"images": [], "annotations": [], "categories": names}))
    output = tmp_path / "new" / "m.safetensors"
    words = (folder / "model.pth", output, "--config", folder / "config.yaml", "--annotations", tmp_path / "a.json")
    run(*words)
    written = read_weights(output)
    assert written.categories.names == [f"thing {i}" for i in range(1, 7)]
    expected = resolve_weights(folder / "model.pth", folder / "config.yaml").state_dict
    assert all(torch.equal(written.state_dict[name], expected[name]) for name in expected)
    text = capsys.readouterr().out
    assert "ResNet-50-C4, 275 tensors, 6 classes (thing 1, thing 2" in text
    assert f"wrote {output}" in text


def test_ours_to_detectron2_and_back(references: Path, tmp_path: Path) -> None:
    folder = references / "r50_w6_c6"
    first, theirs, again = tmp_path / "m.safetensors", tmp_path / "t.pth", tmp_path / "n.safetensors"
    run(folder / "model.pth", first, "--config", folder / "config.yaml")
    run(first, theirs, "--to", "detectron2")
    run(theirs, again, "--config", tmp_path / "t.yaml")
    assert read_weights(again).config == read_weights(first).config
    original = torch.load(folder / "model.pth", weights_only=True)["model"]
    written = torch.load(theirs, weights_only=True)["model"]
    assert written.keys() == original.keys()
    assert all(torch.equal(written[name], original[name]) for name in original)


def test_training_settings_come_from_the_run(
    references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A weights file carries none, and a detectron2 config says some: they are those of the run, or said to be none."""
    folder = references / "r50_w6_c6"
    ours = tmp_path / "run" / "model_final.safetensors"
    run(folder / "model.pth", ours, "--config", str(folder / "config.yaml"))
    run(ours, tmp_path / "a.pth", "--to", "detectron2")
    assert "how it was trained is not known here" in capsys.readouterr().out
    (ours.parent / "config.yaml").write_text("train: {iterations: 1234, milestones: [1000]}\n")
    run(ours, tmp_path / "b.pth", "--to", "detectron2")
    assert f"its training settings are those of {ours.parent / 'config.yaml'}" in capsys.readouterr().out
    settings = yaml.safe_load((tmp_path / "b.yaml").read_text())
    assert settings["SOLVER"]["MAX_ITER"] == 1234
    assert settings["MODEL"]["RESNETS"]["DEPTH"] == 50


def test_ours_to_torchvision(ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(ours, tmp_path / "r.pth", "--to", "torchvision")
    written = torch.load(tmp_path / "r.pth", weights_only=True)
    with torch.device("meta"):
        names = torchvision.models.resnet18().state_dict().keys()
    assert written.keys() == {n for n in names if not n.startswith("fc.") and not n.endswith("num_batches_tracked")}
    state = read_weights(ours).state_dict
    assert torch.equal(written["layer3.1.conv2.weight"], state["backbone.conv4_x.1.conv2.weight"])
    assert torch.equal(written["layer4.0.downsample.1.bias"], state["roi_head.conv5_x.0.shortcut.norm.bias"])
    assert "[58.395, 57.12, 57.375], stride in the 1×1" in capsys.readouterr().out


def test_mmdetection_to_ours_and_what_of_it_goes_to_others(
    references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the config that the checkpoint carries. Its rules of selection are neither torchvision's nor detectron2's."""
    checkpoint = references.parent / "mmdetection" / "v2_r50_fpn_w4_c7" / "checkpoint.pth"
    mine = tmp_path / "mine.safetensors"
    run(checkpoint, mine)
    written, expected = read_weights(mine), resolve_weights(checkpoint)
    assert written.config.model == expected.config.model
    assert written.config.input == expected.config.input
    assert all(torch.equal(written.state_dict[name], tensor) for name, tensor in expected.state_dict.items())
    assert "ResNet-50-FPN, 295 tensors, 7 classes (n0, n1" in capsys.readouterr().out
    run(mine, tmp_path / "resnet.pth", "--to", "torchvision")
    said = capsys.readouterr().out
    assert "ResNet-50 without fc" in said
    assert "the backbone alone: torchvision's detector has no counterpart for" in said
    with pytest.raises(UserError, match=r"detectron2 has no counterpart for .*model\.rpn\.rank_by=sigmoid"):
        run(mine, tmp_path / "theirs.pth", "--to", "detectron2")


def test_a_detector_of_torchvision_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With narrow layers where its functions allow it."""
    head = torchvision.models.detection.faster_rcnn.TwoMLPHead(256 * 7 * 7, 8)
    predictor = torchvision.models.detection.faster_rcnn.FastRCNNPredictor(8, 4)
    with torch.device("meta"):
        backbone = torchvision.models.detection.backbone_utils.resnet_fpn_backbone(
            backbone_name="resnet18", weights=None
        )
        model = torchvision.models.detection.FasterRCNN(backbone, box_head=head, box_predictor=predictor)
    state = {name: torch.rand(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs, mine, back = tmp_path / "theirs.pth", tmp_path / "mine.safetensors", tmp_path / "back.pth"
    torch.save(state, theirs)
    run(theirs, mine)
    run(mine, back, "--to", "torchvision")
    assert (
        "ResNet-18-FPN of torchvision.models.detection for 4 classes, the background first" in capsys.readouterr().out
    )
    returned = torch.load(back, weights_only=True)
    assert returned.keys() == state.keys()
    for name, tensor in state.items():
        first = 4 if "bbox_pred" in name and "roi_heads" in name else 0
        assert torch.equal(returned[name][first:] if first else returned[name], tensor[first:] if first else tensor)


def test_imagenet_to_ours_in_half_the_bytes(references: Path, tmp_path: Path) -> None:
    source = references / "msra_r50_w2_fused/backbone.pkl"
    run(source, tmp_path / "b.safetensors")
    run(source, tmp_path / "h.safetensors", "--dtype", "bfloat16")
    assert len(read_weights(tmp_path / "b.safetensors").categories) == 0
    assert (tmp_path / "h.safetensors").stat().st_size < (tmp_path / "b.safetensors").stat().st_size
    with pytest.raises(UserError, match="holds a backbone alone, and --to detectron2 writes detectors"):
        main(["convert-weights", str(tmp_path / "b.safetensors"), str(tmp_path / "d.pth"), "--to", "detectron2"])


def test_refusals(ours: Path, tmp_path: Path) -> None:
    cases = [
        ([ours, tmp_path / "m.pth"], r"--to ours writes a file that ends with \.safetensors"),
        ([ours, tmp_path / "m.safetensors", "--to", "detectron2"], r"ends with \.pth or \.pkl"),
        ([ours, ours], "would overwrite the input"),
        ([ours, tmp_path / "m.pth", "--to", "torchvision", "--dtype", "bfloat16"], "is for our own files"),
        ([ours, tmp_path / "m.pth", "--to", "detectron2"], r"no counterpart for model\.backbone\.depth=18"),
        ([tmp_path / "none.pth", tmp_path / "m.safetensors"], "there is no such file"),
    ]
    for words, message in cases:
        with pytest.raises(UserError, match=message):
            main(["convert-weights", *(str(word) for word in words)])
    assert [path.name for path in tmp_path.iterdir()] == ["ours.safetensors"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"categories": [{"id": 1, "name": "a"}]}', "names 1 categories, but the weights have 3"),
        ('{"categories": 5}', "holds no COCO categories"),
        ("[]", "holds no COCO categories"),
        ("{", "not a JSON file"),
    ],
)
def test_annotations_that_do_not_fit(ours: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=message):
        main(["convert-weights", str(ours), str(tmp_path / "o.safetensors"), "--annotations", str(tmp_path / "a.json")])


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["convert-weights", "--help"])
    assert caught.value.code == 0
    assert "faster-rcnn convert-weights R101-C4-3x r101.safetensors" in capsys.readouterr().out
