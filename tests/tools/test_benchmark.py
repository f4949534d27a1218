import dataclasses
from pathlib import Path

import pytest
import torch
from benchmarking.kept_memory import can_keep, memory_here
from benchmarking.measurements import HEADLINE
from tool_loading import load_tool

from detector.errors import UserError

TABLES = (
    HEADLINE,
    "inference agreement",
    "inference",
    "inference ratios",
    "inference memory",
    "training agreement",
    "training",
    "training ratios",
    "training memory",
    "growth",
    "kernels",
    "start-up",
    "loading",
    "scoring",
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "tpu"], "choose auto, cpu"),
        (["--annotations", "a.json"], "belong together"),
        (["--forms", "bf16"], "eager must be among them"),
        (["--threads", "100000"], "choose at most that"),
        (["--picture", "missing.jpg", "--quick", "--part", "inference", "--memory", "returned"], "missing.jpg"),
    ],
)
def test_what_the_user_must_fix(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_tool("benchmark").main([*arguments, "--output", str(tmp_path)])


@pytest.mark.parametrize("arguments", [["--size", "800"], ["--size", "8x8"], ["--part", "all", "nothing"]])
def test_bad_words(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load_tool("benchmark").main(arguments)
    assert stop.value.code == 2
    assert "error: argument" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load_tool("benchmark").main(["--help"])
    assert stop.value.code == 0
    assert "--device cuda --output" in capsys.readouterr().out


def test_settings() -> None:
    tool = load_tool("benchmark")
    settings = tool.make_settings(tool.parse_arguments(["--size", "600x800", "--forms", "bf16-compiled", "eager"]))
    assert settings.size == (600, 800)
    assert settings.forms == ("eager", "bf16-compiled")
    assert settings.device == torch.device("cpu")
    assert settings.batches == (1,)


def test_a_refusal_is_our_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = load_tool("benchmark")
    part = tool.Part(lambda _settings, report: report.refuse("loading", "other pixels"), (memory_here(),))
    monkeypatch.setitem(tool.PARTS, "loading", part)
    assert tool.main(["--part", "loading", "--quick", "--output", str(tmp_path)]) == 1
    assert "refused: loading: other pixels" in (tmp_path / "benchmark.md").read_text()


def test_with_which_memory_parts_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = load_tool("benchmark")
    settings = tool.make_settings(tool.parse_arguments([]))
    monkeypatch.setattr(tool, "can_keep", lambda: True)
    both, one = tool.PARTS["inference"], tool.PARTS["loading"]
    assert tool.memories_of(both, settings, "both") == ("kept", "returned")
    assert tool.memories_of(both, settings, "returned") == ("returned",)
    assert tool.memories_of(one, settings, "both") == ("returned",)
    assert tool.memories_of(one, settings, "kept") == ("returned",)  # never nothing
    on_a_gpu = dataclasses.replace(settings, device=torch.device("cuda"))
    assert tool.memories_of(both, on_a_gpu, "both") == (memory_here(),)
    monkeypatch.setattr(tool, "can_keep", lambda: False)
    assert tool.memories_of(both, settings, "both") == (memory_here(),)


@pytest.mark.skipif(not can_keep(), reason="only glibc can be told to keep memory")
def test_a_part_runs_in_a_process_with_its_memory(tmp_path: Path) -> None:
    arguments = ["--part", "kernels", "--quick", "--output", str(tmp_path)]
    assert load_tool("benchmark").main(arguments) == 0
    text = (tmp_path / "benchmark.md").read_text()
    assert "**kernels**" in text
    assert "PyTorch's kernels use" in text


def test_a_process_that_fails_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = load_tool("benchmark")
    monkeypatch.setattr(tool, "memory_here", lambda: "neither")
    monkeypatch.setattr(tool, "start_anew", lambda *_: 2)
    with pytest.raises(SystemExit) as stop:
        tool.main(["--part", "loading", "--quick", "--output", str(tmp_path)])
    assert stop.value.code == 2


@pytest.mark.slow
def test_all_parts(tmp_path: Path) -> None:
    assert load_tool("benchmark").main(["--quick", "--output", str(tmp_path)]) == 0
    text = (tmp_path / "benchmark.md").read_text()
    for table in TABLES:
        assert f"**{table}**" in text
    assert "aten::" in (tmp_path / "profile.txt").read_text()
