from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.categories import CategoryMap
from detector.config import DataConfig
from detector.datasets.formats.open_dataset import open_dataset, read_contents
from detector.datasets.layouts.apply import describe_splits
from detector.datasets.pictures.transforms import prepare_target
from detector.errors import UserError
from detector.evaluation.coco_eval import evaluate_coco
from detector.evaluation.ground_truth import ground_truth_of

SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def voc_object(name: str, corners: tuple[object, ...], extra: str = "") -> str:
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def tree(tmp_path: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """A VOC folder with these XML contents, and a 40×30 picture for each."""
    annotations, images = tmp_path / "Annotations", tmp_path / "JPEGImages"
    for name, content in files.items():
        path = annotations / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if content.startswith("<?") else f"<annotation>{content}</annotation>")
        picture = images / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(picture)
    return annotations, images


def test_corners_are_taken_as_they_are(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></part>"
    annotations, images = tree(
        tmp_path,
        {
            "b": SIZE + voc_object("dog", (1, 2, 11, 22)) + voc_object("cat", (3.5, 4, 5, 6), part),
            "a": SIZE + "<filename>elsewhere.jpg</filename>",
            "c/d": voc_object("dog", (0, 0, 40, 30), "<difficult>1</difficult>"),
        },
    )
    data = open_dataset("voc", annotations, images)
    assert data.categories == CategoryMap.from_names(["cat", "dog"])
    samples = [data[index] for index in range(3)]
    assert [sample.image_id for sample in samples] == [1, 2, 3]
    assert [data.file_name(index) for index in range(3)] == ["a.png", "b.png", "c/d.png"]
    assert [sample.size for sample in samples] == [(30, 40)] * 3  # the last from the picture itself
    assert samples[0].boxes.shape == (0, 4)
    assert samples[1].boxes.tolist() == [[1, 2, 11, 22], [3.5, 4, 5, 6]]
    assert samples[1].labels.tolist() == [2, 1]
    assert (samples[2].labels.tolist(), samples[2].iscrowd.tolist()) == ([2], [True])
    assert data.to_coco()["annotations"][0]["bbox"] == [1, 2, 10, 20]


def test_lists_of_names(tmp_path: Path) -> None:
    annotations, images = tree(tmp_path, {name: SIZE + voc_object(name, (1, 1, 2, 2)) for name in "abc"})
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("c\na\n\n")
    (lists / "a_val.txt").write_text("b -1\nc  1\n")
    train = open_dataset("voc", lists / "train.txt", images)
    assert [train.file_name(index) for index in range(2)] == ["c.png", "a.png"]
    assert train.categories.names == ["a", "c"]
    everything = open_dataset("voc", annotations, images)
    val = open_dataset("voc", lists / "a_val.txt", images, like=everything)
    assert [val[index].labels.tolist() for index in range(2)] == [[2], [3]]
    with pytest.raises(UserError, match=r"b\.xml: class 'b' is not among a, c"):
        open_dataset("voc", lists / "a_val.txt", images, like=train)
    (annotations / "near.txt").write_text("a")
    assert len(open_dataset("voc", annotations / "near.txt", images)) == 1
    (lists / "train.txt").write_text("a\na\n")
    with pytest.raises(UserError, match="lists a more than once"):
        open_dataset("voc", lists / "train.txt", images)


def test_a_picture_of_another_name_is_found_by_filename(tmp_path: Path) -> None:
    annotations, images = tree(
        tmp_path, {"x/a": "<filename>C:\\pics\\other.PNG</filename>" + voc_object("k", (1, 1, 2, 2))}
    )
    (images / "x" / "a.png").rename(images / "x" / "other.PNG")
    assert open_dataset("voc", annotations, images).file_name(0) == "x/other.PNG"


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotation>&b;</annotation>'
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<object>", r"a\.xml: not an XML file of annotations \(mismatched tag"),
        (BOMB, r"a\.xml: not an XML file of annotations"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "not an XML file of annotations"),
        ("<object><name>k</name></object>", r"a\.xml: an object has no bndbox/xmin"),
        (voc_object("", (1, 1, 2, 2)), "an object has no name"),
        (voc_object("k", (1, 1, "two", 2)), "bndbox/xmax is 'two', which is not a number"),
        (
            SIZE + voc_object("k", (1, 1, "nan", 2)),
            r"a coordinate is infinite or not a number \(annotation 1 of image 1 \(a.png\)",
        ),
        (SIZE, "has no classes"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: str, message: str) -> None:
    annotations, images = tree(tmp_path, {"a": content})
    with pytest.raises(UserError, match=message) as caught:
        open_dataset("voc", annotations, images)
    assert "\n" not in str(caught.value)


def test_degenerate_boxes(tmp_path: Path) -> None:
    annotations, images = tree(tmp_path, {"a": SIZE + voc_object("k", (1, 1, 2, 2)) + voc_object("k", (5, 5, 5, 9))})
    assert open_dataset("voc", annotations, images).dropped == 1
    with pytest.raises(UserError, match=r"annotation 2 of image a\.png has width 0 and height 4"):
        open_dataset("voc", annotations, images, drop_degenerate_boxes=False)


def test_what_is_missing(tmp_path: Path) -> None:
    annotations, images = tree(tmp_path, {"a": SIZE + voc_object("k", (1, 1, 2, 2))})
    with pytest.raises(UserError, match="no such folder"):
        open_dataset("voc", tmp_path / "none", images)
    with pytest.raises(UserError, match=r"none\.txt: cannot read the list of names"):
        open_dataset("voc", tmp_path / "none.txt", images)
    (tmp_path / "list.txt").write_text("b")
    with pytest.raises(UserError, match=r"b\.xml: cannot read the annotations"):
        open_dataset("voc", tmp_path / "list.txt", images)
    for outside in ("../a", "/a"):
        (tmp_path / "list.txt").write_text(outside)
        with pytest.raises(UserError, match=rf"list\.txt: lists {outside}, which lies outside the tree"):
            open_dataset("voc", tmp_path / "list.txt", images)
    (images / "a.jpg").write_bytes((images / "a.png").read_bytes())
    with pytest.raises(UserError, match=r"a\.jpg and a\.png differ in their suffix only"):
        open_dataset("voc", annotations, images)
    (images / "a.jpg").unlink()
    (images / "a.png").unlink()
    with pytest.raises(UserError, match=r"a\.xml: its picture a is not in .*JPEGImages"):
        open_dataset("voc", annotations, images)


def test_every_box_of_an_object_counts(tmp_path: Path) -> None:
    boxes = "".join(
        f"<bndbox><xmin>{x}</xmin><ymin>1</ymin><xmax>{x + 5}</xmax><ymax>9</ymax></bndbox>" for x in (1, 10, 20)
    )
    annotations, images = tree(tmp_path, {"a": SIZE + f"<object><name>car</name>{boxes}</object>"})
    assert open_dataset("voc", annotations, images)[0].boxes.tolist() == [[1, 1, 6, 9], [10, 1, 15, 9], [20, 1, 25, 9]]


@pytest.mark.parametrize(
    "content",
    [
        f"<objects>{voc_object('k', (1, 2, 3, 4))}</objects>",
        f"<layer><group>{voc_object('k', (1, 2, 3, 4))}</group></layer>",
        voc_object("k", (1, 2, 3, 4)).replace("object>", "Object>").replace("bndbox", "BndBox"),
        '<?xml version="1.0"?><annotation xmlns="http://example.org/voc">'
        + voc_object("k", (1, 2, 3, 4))
        + "</annotation>",
        '<?xml version="1.0"?><set><annotation>' + voc_object("k", (1, 2, 3, 4)) + "</annotation></set>",
        '<?xml version="1.0"?><v:annotation xmlns:v="x"><v:object><v:name>k</v:name><v:bndbox><v:xmin>1</v:xmin>'
        "<v:ymin>2</v:ymin><v:xmax>3</v:xmax><v:ymax>4</v:ymax></v:bndbox></v:object></v:annotation>",
    ],
)
def test_objects_are_found_wherever_they_stand(tmp_path: Path, content: str) -> None:
    annotations, images = tree(tmp_path, {"a": content})
    assert open_dataset("voc", annotations, images)[0].boxes.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<bndbox><xmin>1</xmin></bndbox>" + voc_object("k", (1, 2, 3, 4)), "a bndbox is outside any object"),
        ("<object><name>k</name><polygon><x1>3</x1></polygon></object>", "an object has no bndbox/xmin"),
        ("<object><name>k</name><name>l</name></object>", "an object has the names k, l"),
        (voc_object("k", (1, "1_0", 2, 2)), "bndbox/ymin is '1_0', which is not a number"),
        (
            voc_object("k", (1, 2, 3, 4)).replace("</xmin>", "</xmin><xmin>2</xmin>"),
            "an object has 2 times bndbox/xmin",
        ),
        (
            "<?xml version='1.0'?><annotations><image><box/></image></annotations>",
            "is CVAT's own XML, which is not read; export",
        ),
        (
            "<?xml version='1.0'?><pictures><image/></pictures>",
            "not a Pascal VOC file: it has 0 elem",
        ),
        ("<?xml version='1.0'?><s><annotation/><annotation/></s>", r"has 2 elements <annotation> .* begins with <s>"),
    ],
)
def test_what_would_be_read_as_less_than_it_is(tmp_path: Path, content: str, message: str) -> None:
    annotations, images = tree(tmp_path, {"a": content, "b": SIZE + voc_object("k", (1, 1, 2, 2))})
    with pytest.raises(UserError, match=rf"a\.xml: .*{message}"):
        open_dataset("voc", annotations, images)


def test_exchanged_corners_are_put_in_order_and_said(tmp_path: Path) -> None:
    annotations, images = tree(tmp_path, {"a": SIZE + voc_object("k", (9, 2, 3, 4)) + voc_object("k", (1, 1, 2, 2))})
    data = open_dataset("voc", annotations, images)
    assert data[0].boxes.tolist() == [[3, 2, 9, 4], [1, 1, 2, 2]]
    assert "1 × swapped-corners" in data.notes[0]


def test_lists_of_names_with_spaces(tmp_path: Path) -> None:
    annotations, images = tree(
        tmp_path, {n: SIZE + voc_object("k", (1, 1, 2, 2)) for n in ("Shot 1", "Shot 2", "b\u2028c")}
    )
    (tmp_path / "train.txt").write_text("Shot 2\r\nShot 1\r\nb\u2028c\n")
    data = open_dataset("voc", tmp_path / "train.txt", images)
    assert [data.file_name(index) for index in range(3)] == ["Shot 2.png", "Shot 1.png", "b\u2028c.png"]
    assert annotations.is_dir()


def test_an_only_file_that_cannot_be_read_is_the_cause(tmp_path: Path) -> None:
    annotations, images = tree(tmp_path, {"a": SIZE})
    (annotations / "a.xml").write_text('\n<?xml version="1.0"?><annotation/>')
    with pytest.raises(
        UserError, match=r"a\.xml: not an XML file of annotations \(XML or text declaration not at start"
    ):
        open_dataset("voc", annotations, images)


def test_files_that_systems_leave_behind_are_no_annotations(tmp_path: Path) -> None:
    annotations, images = tree(tmp_path, {"a": SIZE + voc_object("k", (1, 1, 2, 2))})
    (annotations / "._a.xml").write_bytes(b"\0\5\x16\7")
    (annotations / "loop").symlink_to(annotations)
    assert len(open_dataset("voc", annotations, images)) == 1


@pytest.mark.parametrize("encoding", ["gb2312", "GBK", "shift_jis", "euc-kr"])
def test_encodings_that_the_parser_lacks_are_read(tmp_path: Path, encoding: str) -> None:
    name = "犬" if encoding != "euc-kr" else "개"
    annotations, images = tree(tmp_path, {"a": ""})
    text = (
        f"<?xml version='1.0' encoding='{encoding}'?>\n<annotation>{SIZE}{voc_object(name, (1, 2, 3, 4))}</annotation>"
    )
    (annotations / "a.xml").write_bytes(text.encode(encoding))
    assert open_dataset("voc", annotations, images).categories.names == [name]
    (annotations / "a.xml").write_bytes(text.encode(encoding) + b"\xff")  # which none of them has
    with pytest.raises(UserError, match=r"a\.xml: not an XML file of annotations \('.*' codec can't decode byte"):
        open_dataset("voc", annotations, images)


@pytest.mark.parametrize(
    ("text", "iscrowd"),
    [
        ("<difficult>1</difficult>", 1),
        ("<difficult>True</difficult>", 1),
        ("<difficult/>", 0),
        ("<difficult> 0 </difficult>", 0),
        ("<truncated>1</truncated><occluded>1</occluded>", 0),
        ("", 0),
    ],
)
def test_difficult_objects_are_ignored_and_no_others(tmp_path: Path, text: str, iscrowd: int) -> None:
    annotations, _ = tree(tmp_path, {"a": SIZE + voc_object("dog", (1, 1, 9, 9), text)})
    assert read_contents("voc", annotations, None).annotations[0]["iscrowd"] == iscrowd


def test_what_is_neither_difficult_nor_not_is_refused(tmp_path: Path) -> None:
    annotations, images = tree(tmp_path, {"a": SIZE + voc_object("dog", (1, 1, 9, 9), "<difficult>very</difficult>")})
    with pytest.raises(UserError, match=r"a\.xml: an object has difficult 'very'\. Write 1, and it is left out"):
        open_dataset("voc", annotations, images)


def test_difficult_objects_are_neither_trained_on_nor_missed_nor_false(tmp_path: Path) -> None:
    easy, hard = voc_object("dog", (1, 1, 9, 9)), voc_object("dog", (20, 10, 39, 29), "<difficult>1</difficult>")
    annotations, images = tree(tmp_path, {"a": SIZE + easy + hard, "b": SIZE + hard})
    data = open_dataset("voc", annotations, images)
    assert (data.object_counts().tolist(), data.iscrowd.tolist()) == ([1, 0], [False, True, True])
    assert [len(prepare_target(data[index], (30, 40), (30, 40)).boxes) for index in range(2)] == [1, 0]
    first, second = ({"image_id": 1, "category_id": 1, "bbox": box, "score": score}
                     for box, score in (([1, 1, 8, 8], 0.5), ([20, 10, 19, 19], 0.9)))  # fmt: skip
    for detections in ([first], [first, second], [first, second, {**second, "image_id": 2}, second]):
        score = evaluate_coco(ground_truth_of(data), detections).AP
        assert score == pytest.approx(1, abs=1e-9)
    table = describe_splits(DataConfig(format="voc"), {"train": data})
    assert "  train: 2 difficult objects: ignored, as in VOC's own scoring" in table
    coco = describe_splits(DataConfig(), {"val": data})
    assert "  val: 2 crowd regions: ignored, as in COCO's own scoring" in coco
