"""What a training run would be, for those who asked before starting it."""

from dataclasses import dataclass, field

from detector.config import Config


@dataclass(frozen=True)
class Explanation:
    """How a run's data are understood, and each choice with its reason. `str` of it is what `--explain` prints.

    config: every setting that the run would have. output: its folder. lines: of the text.
    """

    config: Config = field(repr=False)
    output: str
    lines: tuple[str, ...] = field(repr=False)

    def __str__(self) -> str:
        return "\n".join(self.lines)
