"""Words of a command line that stand for other inputs: addresses, standard input, and lists of inputs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from detector.download import DownloadError, DownloadPolicy, download
from detector.errors import UserError

MAX_BYTES = 2**30  # of what an address or standard input gives
POLICY = DownloadPolicy(timeout=20.0, attempts=2)


def gather(words: Sequence[str], folder: Path) -> list[str]:
    """The words with every address, `-` and list replaced by files.

    Args:
        words: an http or https address is fetched; `-` is the bytes of a picture on standard input; a .txt file is a
            list of words, one a line, without empty lines and those that begin with #. All others are left alone.
        folder: where fetched files are put; it exists.

    Raises:
        UserError: something cannot be fetched in time, is too long, or is not there.
    """
    gathered: list[str] = []
    for word in words:
        if word.lower().endswith(".txt") and Path(word).is_file():
            gathered += gather(_lines(Path(word)), folder)
        elif is_address(word):
            gathered.append(str(_fetch(word, folder)))
        elif word == "-":
            gathered.append(str(_standard_input(folder)))
        else:
            gathered.append(word)
    return gathered


def is_address(word: str) -> bool:
    """Whether a word is an address on the network."""
    return word.startswith(("http://", "https://"))


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of inputs ({error}).") from None
    words = [line for line in lines if line and not line.startswith("#")]
    if not words:
        raise UserError(f"{path}: this list names no inputs; write one a line.")
    nested = [word for word in words if word.lower().endswith(".txt")]
    if nested:
        raise UserError(f"{path}: a list cannot name another list ({nested[0]}); name that as an input of its own.")
    return words


def _fetch(url: str, folder: Path) -> Path:
    name = Path(unquote(urlsplit(url).path)).name or "picture"
    path = _free(folder / name)
    try:
        download(url, path, name, POLICY, verified_later=False, max_bytes=MAX_BYTES)
    except DownloadError as error:
        raise UserError(f"{url}: cannot be fetched ({error}); check the address, or fetch it by hand.") from None
    except ValueError as error:
        raise UserError(f"{url}: is no usable address ({error}).") from None
    return path


def _standard_input(folder: Path) -> Path:
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES or not data:
        reason = "holds nothing" if not data else f"is longer than {MAX_BYTES} bytes"
        raise UserError(f"-: standard input {reason}; give the bytes of one picture.")
    path = _free(folder / "stdin")
    path.write_bytes(data)
    return path


def _free(path: Path) -> Path:
    """A path that is not taken: the given one, or in a new folder of its own beside it."""
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.parent / str(number) / path.name
    free.parent.mkdir(exist_ok=True)
    return free
