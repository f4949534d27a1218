"""Words of a command line that stand for other inputs: addresses, standard input, and lists of inputs."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from detector.datasets.formats.text_files import lines_of, read_text
from detector.disk import file_digest
from detector.download import DownloadError, DownloadPolicy, download, is_offline
from detector.errors import UserError, shown
from detector.inference.video.frames import is_camera
from detector.weights.untrusted.unpickle import is_html

MAX_BYTES = 2**30  # of what an address or standard input gives
SAFE = "%/:=&?~#+!$,;'@()*[]"  # in an address, beside letters and digits
POLICY = DownloadPolicy(timeout=20.0, attempts=2)


@dataclass
class Gathered:
    """What words stand for.

    words: with files in place of what was elsewhere. missed: a sentence for each list and address that gave nothing.
    origins: the addresses of the files that were fetched, by their paths; `-` for standard input.
    """

    words: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)

    def called(self, path: str) -> str:
        """What messages call a file: the address that it was fetched from, or its path."""
        return self.origins.get(path, path)


def gather(words: Sequence[str], folder: Path) -> Gathered:
    """The words with every address, `-` and list replaced by files.

    Args:
        words: an http or https address is fetched; `-` is the bytes of a picture or video on standard input; a .txt
            file is a list of words, one a line, without empty lines and those that begin with #. A path in it starts
            at the working folder or, where there is no such file, at the list's. All other words are left alone.
        folder: where fetched files are put; it exists.

    Raises:
        UserError: standard input cannot be used.
    """
    gathered = Gathered()
    for word in words:
        if is_list(word):
            try:
                listed = _lines(Path(word))
            except UserError as error:
                gathered.missed.append(str(error))
                continue
            more = gather(listed, folder)
            gathered.words += more.words
            gathered.missed += more.missed
            gathered.origins |= more.origins
        elif is_address(word) or word == "-":
            try:
                path = _standard_input(folder) if word == "-" else _fetch(word, folder)
            except DownloadError as error:
                gathered.missed.append(f"{word}: {error}")
                continue
            _date_by_content(path)
            gathered.words.append(str(path))
            gathered.origins[str(path)] = word
        else:
            gathered.words.append(word)
    return gathered


def is_address(word: str) -> bool:
    """Whether a word is an address on the network."""
    return word.lower().startswith(("http://", "https://"))


def is_list(word: str) -> bool:
    """Whether a word is a list of inputs: a file with the suffix .txt."""
    return word.lower().endswith(".txt") and os.path.isfile(word)


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in lines_of(read_text(path, "list of inputs"))]
    words = [_place(line, path.parent) for line in lines if line and not line.startswith("#")]
    if not words:
        raise UserError(f"{path}: this list names no inputs; write one a line.")
    if not any(map(_may_be_input, words)):
        raise UserError(
            f"{path}: is taken for a list of inputs, and its lines, such as {shown(words[0])}, name none; leave it out."
        )
    nested = [word for word in words if is_list(word)]
    if nested:
        raise UserError(f"{path}: a list cannot name another list ({nested[0]}); name that as an input of its own.")
    return words


def _may_be_input(word: str) -> bool:
    return is_address(word) or is_camera(word) or has_magic(word) or os.path.exists(os.path.expanduser(word))


def _place(word: str, folder: Path) -> str:
    """A word of a list in `folder`: a path from there, where that and not the word itself is one."""
    beside = str(folder / word)
    return beside if not os.path.lexists(word) and os.path.lexists(beside) else word


def _fetch(url: str, folder: Path) -> Path:
    """The file that an address gives, under its name. Raises DownloadError, the end of a sentence."""
    if is_offline():
        raise DownloadError("is not fetched, since DETECTOR_OFFLINE forbids the network; fetch it by hand.")
    try:
        last = Path(unquote(urlsplit(url).path)).name
        name = re.sub(r"[\0-\x1f/\\]", "_", last)[-50:] if last.strip(". ") else "picture"
        path = _free(folder / name)
        # What a browser shows may have letters and spaces that an address cannot.
        download(_in_ascii(url), path, name, POLICY, verified_later=False, max_bytes=MAX_BYTES)
        with open(path, "rb") as file:
            if is_html(file.read(512)):
                raise DownloadError("the server gave a web page and no picture")
    except DownloadError as error:
        raise DownloadError(f"cannot be fetched ({error}); check the address, or fetch it by hand.") from None
    except ValueError as error:
        raise DownloadError(f"is no usable address ({error}).") from None
    except OSError as error:
        raise DownloadError(f"cannot be kept in {folder} ({error.strerror}); make room there.") from None
    return path


def _in_ascii(url: str) -> str:
    """An address as it travels: with the host's name in IDNA, and all else that is no ASCII in per cent.

    Raises:
        DownloadError: it holds a password, which would not be sent.
        ValueError: it is no address.
    """
    parts = urlsplit(url)
    if parts.username is not None:
        raise DownloadError("names and passwords in addresses are not sent")
    host, colon, port = parts.netloc.rpartition(":") if parts.port is not None else (parts.netloc, "", "")
    host = host if host.isascii() else host.encode("idna").decode("ascii")
    return quote(parts._replace(netloc=host + colon + port).geturl(), safe=SAFE)


def _date_by_content(path: Path) -> None:
    """Give a file a date that its content alone decides, by which `--skip-done` knows it when it is fetched again."""
    seconds = int(file_digest(path)[:8], 16) >> 1  # before the year 2038, as every file system takes it
    os.utime(path, (seconds, seconds))


def _standard_input(folder: Path) -> Path:
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES or not data:
        reason = "holds nothing" if not data else f"is longer than {MAX_BYTES} bytes"
        raise UserError(f"-: standard input {reason}; give the bytes of one picture or video.")
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
