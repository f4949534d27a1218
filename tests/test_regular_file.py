import os
import socket
from pathlib import Path

import pytest

from detector.errors import UserError
from detector.regular_file import open_regular, read_regular


def test_a_file_and_a_link_to_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "a", "weights", 4) == b"data"
    with open_regular(tmp_path / "link", "weights") as file:
        assert file.read() == b"data"


def test_more_bytes_than_allowed_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    with pytest.raises(UserError, match=r"a: more than 3 bytes are too many for a config\."):
        read_regular(tmp_path / "a", "config", 3)


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "to_pipe").symlink_to("pipe")
    kinds = {"pipe": "a named pipe", "to_pipe": "a named pipe", "folder": "a folder", "zero": "a device"}
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path may not be long
        server.bind("socket")
        for name, kind in (kinds | {"socket": "a socket"}).items():
            with pytest.raises(UserError, match=rf"{name}: is {kind} and not a file; give the weights file\."):
                open_regular(tmp_path / name, "weights")


@pytest.mark.parametrize("name", ["absent", "nul\0l", "half\ud800", "loop", "x" * 5000])
def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"cannot read the weights .*check the path"):
        open_regular(tmp_path / name, "weights")
