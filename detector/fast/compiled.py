"""Parts of the network through `torch.compile`. Where that fails they run uncompiled, and the log says so."""

import logging
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)


class Compiled(nn.Module):
    """A part that is compiled at its first call, and once more when it meets another input size.

    Args:
        part: takes tensors, gives one or several.
        name: what the log calls the part.
    """

    def __init__(self, part: nn.Module, name: str) -> None:
        super().__init__()
        self.part = part
        self.name = name
        self.compiled: Any = torch.compile(part, fullgraph=True)

    def forward(self, *inputs: Any) -> Any:
        """The part's output, of the same shape as without compiling.

        Raises what the part itself raises, and torch.OutOfMemoryError.
        """
        if self.compiled is not None:
            try:
                return self.compiled(*inputs)  # compiles before it runs: where it fails, the inputs are still whole
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                log.warning(
                    "Compiling %s failed (%s): it runs uncompiled: slower, but just as exact.", self.name, reason
                )
                self.compiled = None
        return self.part(*inputs)
