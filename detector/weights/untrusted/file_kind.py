"""What a file is by how it begins, whatever its name ends with."""

import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

from detector.errors import UserError, shown
from detector.regular_file import open_regular
from detector.weights.untrusted.unpickle import is_html

HEAD = 512  # bytes that are looked at
_BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of Git LFS; run `git lfs pull` there, or download the file itself"),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes; weights of PyTorch load"),
    (b"\x1f\x8b", "compressed by gzip; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"\x89PNG", "a picture, and no weights; is it an input?"),
    (b"\xff\xd8\xff", "a picture, and no weights; is it an input?"),
    (b"\x93NUMPY", "a NumPy array, and weights have names"),
)
_TAR = (257, b"ustar")
_ONNX = (b"\x08", b"\x12")  # its version, and who produced it


def read_head(path: Path) -> bytes:
    """The first `HEAD` bytes of a file of weights. Raises UserError where it cannot be read."""
    with open_regular(path, "weights") as file:
        try:
            return file.read(HEAD)
        except OSError as error:  # of a broken disk, or of what only looks like a file, as in /proc
            raise UserError(f"{path}: cannot read the weights ({error.strerror or error}).") from None


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins like one of safetensors: the length of a JSON object, and that."""
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**32


def refuse_other(head: bytes, source: str) -> None:
    """Raise UserError for a file that plainly holds something else than weights: what it is, and the remedy.

    Args:
        head: its first `HEAD` bytes.
    """
    if is_html(head):
        raise UserError(f"{source}: this is a web page saved instead of weights; download the file itself.")
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            raise UserError(f"{source}: is {what}{'' if what.endswith('?') else '.'}")
    if head[_TAR[0] :].startswith(_TAR[1]):
        raise UserError(f"{source}: is a tar archive; unpack it.")
    if head[:1] == _ONNX[0] and head[2:3] == _ONNX[1]:
        raise UserError(
            f"{source}: seems to be an exported ONNX model, which onnxruntime runs; give the weights it was made of."
        )


def refuse_other_archive(entries: Sequence[zipfile.ZipInfo], source: str) -> None:
    """Raise UserError for a zip archive that torch.save has not written: what it is, and the remedy."""
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise UserError(
            f"{source}: is a TorchScript program, and a program is not run; where it was made, save its weights: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')."
        )
    if names and all(name.endswith(".npy") for name in names):
        raise UserError(f"{source}: is an archive of NumPy arrays; give weights of PyTorch, or a pickle of arrays.")
    if not any(name.endswith("data.pkl") for name in names):
        holds = f"holds {shown(names[0])}" if names else "is empty"
        raise UserError(f"{source}: is a zip archive ({holds}) and no file of torch.save; unpack it.")
