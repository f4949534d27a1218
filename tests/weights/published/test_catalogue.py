"""What is published under a name: where it lies, by whose word, and that its settings are those of a model of ours."""

import re
from pathlib import Path

import pytest
from torchvision.models import detection

from detector.errors import UserError
from detector.weights.lineages.detectron2_config import config_from_detectron2
from detector.weights.lineages.mmdetection_config import config_from_mmdetection
from detector.weights.published.catalogue import PUBLISHED, find_weights, suggest
from detector.weights.published.mmdetection_zoo import MMDETECTION, PYTORCH, stock_config

TORCHVISION = {
    "fasterrcnn_resnet50_fpn": detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "fasterrcnn_resnet50_fpn_v2": detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}
WITH_SETTINGS = [name for name, published in PUBLISHED.items() if published.settings is not None]


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_two_are_where_its_own_metadata_say(name: str) -> None:
    weights, published = TORCHVISION[name], PUBLISHED[name]
    assert published.url == weights.url
    assert published.checksum == ("sha256", weights.url.removesuffix(".pth")[-8:])
    assert published.ap == weights.meta["_metrics"]["COCO-val2017"]["box_map"]
    assert published.megabytes == weights.meta["_file_size"]
    assert published.is_detector


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_its_settings_make_the_network_that_is_listed(name: str) -> None:
    published = PUBLISHED[name]
    assert published.settings is not None
    read = config_from_detectron2 if published.kind == "detectron2" else lambda *a: config_from_mmdetection(*a).config
    config = read(published.settings, name)
    assert config.model.network == published.description
    assert config.model.num_classes == 80
    assert (config.input.min_size_test, config.input.max_size_test) == (800, 1333)
    assert published.ap is not None
    assert 35 < published.ap < 47


@pytest.mark.parametrize("name", MMDETECTION)
def test_mmdetections_files_carry_their_checksum_in_their_name(name: str) -> None:
    published = PUBLISHED[name]
    address = re.fullmatch(r"https://download\.openmmlab\.com/mmdetection/v2\.0/.*-([0-9a-f]{8})\.pth", published.url)
    assert address is not None
    assert published.checksum == ("sha256", address[1])
    assert len({p.url for p in MMDETECTION.values()}) == len(MMDETECTION)


def test_styles_and_colours() -> None:
    """The caffe style has its stride in the 1×1 and wants BGR as it is; ResNeXt-101-32x8d BGR with deviations."""
    caffe = config_from_mmdetection(PUBLISHED["faster-rcnn_r50-caffe_fpn_1x_coco"].settings or {}, "caffe")
    assert caffe.config.model.backbone.stride_in_1x1
    assert caffe.config.input.pixel_std == (1, 1, 1)
    assert not caffe.is_rgb
    pytorch = config_from_mmdetection(stock_config("fpn", 50, "pytorch", PYTORCH), "pytorch")
    assert not pytorch.config.model.backbone.stride_in_1x1
    assert pytorch.is_rgb
    resnext = config_from_mmdetection(PUBLISHED["faster-rcnn_x101-32x8d_fpn_ms-3x_coco"].settings or {}, "resnext")
    assert resnext.config.input.pixel_std == (58.395, 57.12, 57.375)
    assert not resnext.config.model.backbone.stride_in_1x1
    assert not resnext.is_rgb


def test_the_nearest_name_is_suggested() -> None:
    assert suggest("r50-fpn-3X") == "did you mean R50-FPN-3x?"
    assert suggest("faster_rcnn_r50_fpn_1x_coco") == "did you mean faster-rcnn_r50_fpn_1x_coco?"
    assert "fasterrcnn_resnet50_fpn_v2" in suggest("something else")


def test_weights_in_a_folder_and_beside_a_misspelt_path_are_named(tmp_path: Path) -> None:
    for name in ("model_final.safetensors", "model_best.safetensors", "momentum.safetensors", "log.txt"):
        (tmp_path / name).touch()
    both = rf"is a folder; give the file: {tmp_path}/model_best\.safetensors or {tmp_path}/model_final\.safetensors\.$"
    with pytest.raises(UserError, match=both):
        find_weights(tmp_path)
    with pytest.raises(UserError, match=rf"no such published name; did you mean {tmp_path}/model_best\.safetensors\?"):
        find_weights(tmp_path / "model_bset.safetensor")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is a folder; it holds no weights"):
        find_weights(tmp_path / "empty")


def test_an_address_is_told() -> None:
    with pytest.raises(UserError, match=r"weights 'https://a\.example/w\.pth': is an address; fetch the file"):
        find_weights("https://a.example/w.pth")
