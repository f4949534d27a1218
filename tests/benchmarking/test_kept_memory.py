import os
from pathlib import Path

import pytest
from benchmarking.kept_memory import KEEP, environment, memory_here, start_anew


def test_the_environment_says_which_memory_a_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEEP:
        monkeypatch.delenv(name, raising=False)
    assert memory_here() == "returned"
    for name, value in KEEP.items():
        monkeypatch.setenv(name, value)
    assert memory_here() == "kept"
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    assert memory_here() == "returned"
    assert environment("kept").items() >= KEEP.items()
    assert not environment("returned").keys() & KEEP.keys()
    assert environment("returned").keys() | KEEP.keys() >= os.environ.keys()


@pytest.mark.parametrize("memory", ["kept", "returned"])
def test_a_process_started_anew_has_the_memory_that_is_wanted(tmp_path: Path, memory: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path('tools').resolve())!r})\n"
        "from benchmarking.kept_memory import memory_here\n"
        "sys.exit(7 if memory_here() == sys.argv[1] else 1)\n"
    )
    assert start_anew(str(script), [memory], memory) == 7  # type: ignore[arg-type]
