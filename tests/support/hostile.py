"""Files made to run code, to exhaust memory, or to be no weights at all."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Call:
    """Pickles as a call of `function` with `arguments`, made by whoever unpickles it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def payload(canary: Path) -> Call:
    """A call of os.system that creates `canary`."""
    return Call(os.system, f"touch {canary}")


def object_array(canary: Path) -> np.ndarray:
    """A numpy array whose one element is such a call."""
    array = np.empty(1, dtype=object)
    array[0] = payload(canary)
    return array


def torch_file(content: Any, new_format: bool = True) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=new_format)
    return file.getvalue()


def compressed(archive: bytes) -> bytes:
    """The same zip archive, deflated: zeros shrink a thousandfold."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return file.getvalue()


def lambda_pickle(canary: Path) -> bytes:
    """Code of a lambda, marshalled, unpickled to a function and called: how such payloads travel."""
    code = f"(lambda: open({str(canary)!r}, 'w').close())()"
    return pickle.dumps({"model": Call(eval, code)})
