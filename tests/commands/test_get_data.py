"""The command get-data, as a user meets it."""

from dataclasses import replace
from pathlib import Path

import pytest

from detector.commands.main import main
from detector.datasets.public_sets import addresses
from detector.errors import UserError


def test_without_a_name_the_sets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get-data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(addresses.SETS)
    assert "20.41 GB  COCO 2017" in lines[0]


def test_a_wrong_name_gets_the_nearest_right_one() -> None:
    with pytest.raises(UserError, match="no data set 'coco2018' to fetch; did you mean coco2017"):
        main(["get-data", "coco2018"])


def test_offline_it_says_where_the_file_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    small = replace(addresses.SETS["bccd"].archives[0], size=1, unpacked=1)
    monkeypatch.setitem(addresses.SETS, "bccd", replace(addresses.SETS["bccd"], archives=(small,)))
    with pytest.raises(UserError, match=r"bccd: DETECTOR_OFFLINE forbids fetching https://github\.com/Shenggan/"):
        main(["get-data", "bccd", "--output", str(tmp_path / "bccd")])
