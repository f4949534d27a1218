import json
from pathlib import Path

import folder_layouts as layouts
import pytest

import detector
from detector.errors import UserError


def test_a_folder_is_checked_as_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = layouts.roboflow_voc(tmp_path / "set")
    check = detector.check_data(word)
    assert check.faults == ()
    assert str(check).endswith("no faults")
    (tmp_path / "set/test/200.png").write_bytes((tmp_path / "set/train/0.png").read_bytes())
    check = detector.check_data(word)
    assert [fault.kind.name for fault in check.faults] == ["in-both-splits"]
    assert detector.check_data(word, ignore=["in-both-splits"], open_pictures=False).faults == ()
    assert capsys.readouterr().out == ""


def test_one_file_is_checked_and_fixed(tmp_path: Path) -> None:
    layouts.labels_file(tmp_path / "set")
    path = tmp_path / "set/labels.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][2] = 0
    path.write_text(json.dumps(content))
    check = detector.check_data(annotations=path, images=tmp_path / "set/data", fix=tmp_path / "fixed.json")
    assert [fault.kind.name for fault in check.faults] == ["zero-size-box"]
    assert (tmp_path / "fixed.json").is_file()
    with pytest.raises(UserError, match="either data"):
        detector.check_data()
