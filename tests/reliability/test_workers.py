"""Several processes train what one does, stop together, and go on together."""

import json
import random
import signal
from pathlib import Path

import pytest
import torch
from injection import inject
from processes import finish, screen, start, start_group
from sabotage import KILL, TERMINATE, Sabotage
from safetensors.torch import load_file
from tiny_run import SETTINGS, assert_same_bits, losses, run, tiny_config, torchrun_command, write_dataset

from detector.config import save_config

# Pictures of one size, so that no share of a batch is padded otherwise than the whole. And nothing that turns rounding
# into something larger at once: every anchor becomes a proposal and every proposal a RoI, whatever the order of their
# scores, the losses are smooth, and the steps small. Rounding still doubles every few steps, as in any training.
EVEN = [
    "input.min_size_train=[96]",
    "model.rpn.anchor_sizes=[32]",
    "model.rpn.pre_nms_top_n_train=10000",
    "model.rpn.post_nms_top_n_train=10000",
    "model.rpn.nms_threshold=1.0",
    "model.roi.batch_size_per_image=10000",
    "model.roi.positive_fraction=1.0",
    "model.rpn.smooth_l1_beta=1.0",
    "model.roi.smooth_l1_beta=1.0",
    "train.learning_rate=0.001",
    "train.milestones=[]",
    "train.evaluate_every=0",
    "train.validation_loss=false",
]


@pytest.mark.parametrize("steps", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_two_workers_train_what_one_does(tmp_path: Path, steps: int) -> None:
    data = write_dataset(tmp_path / "data", one_shape=True)
    settings = [*SETTINGS, *data, *EVEN, f"train.iterations={steps}", "train.clip_gradient_norm=5.0"]
    assert finish([start(settings, tmp_path / "one")]) == [0], screen(tmp_path / "one")
    assert finish(start_group(settings, tmp_path / "two", 2)) == [0, 0], screen(tmp_path / "two", 1)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(one) == list(two) == list(range(1, steps + 1))
    for iteration in one:
        for name in one[iteration]:
            assert two[iteration][name] == pytest.approx(one[iteration][name], rel=1e-4, abs=1e-6), (iteration, name)
    a, b = (load_file(tmp_path / name / "model_final.safetensors") for name in ("one", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)
    assert sum(one[steps].values()) < sum(one[1].values())


def test_evaluation_counts_every_picture_once_for_any_number_of_processes(tmp_path: Path) -> None:
    # Trained once; then resumed at the end, where the evaluation is repeated by 1, 2 and 3 processes.
    settings = [*SETTINGS, *write_dataset(tmp_path / "data", val=7), "train.iterations=2", "train.batch_size=6"]
    settings += ["model.detection.score_threshold=0.001", "train.evaluate_every=0"]
    found = []
    for processes in (1, 2, 3):
        output = tmp_path / "run"
        assert set(finish(start_group(settings, output, processes))) == {0}, screen(output)
        metrics = json.loads((output / "evaluation/metrics.json").read_text())
        detections = json.loads((output / "evaluation/detections.json").read_text())
        found.append((metrics, sorted(detections, key=lambda d: (d["image_id"], -d["score"], d["bbox"]))))
        (output / "model_final.safetensors").unlink()
    assert len(found[0][1]) > 0
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_a_worker_whose_pictures_have_no_objects_keeps_nobody_waiting(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    path = tmp_path / "data/train.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 1]
    path.write_text(json.dumps(content))
    settings = [*SETTINGS, *data, "train.evaluate_every=0", "train.iterations=6"]
    assert finish(start_group(settings, tmp_path / "run", 2)) == [0, 0], screen(tmp_path / "run", 1)


def test_a_signal_to_one_worker_stops_all_at_the_same_step_and_a_killed_one_costs_nothing(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), "train.save_every=2", "train.ema_decay=0.9"]
    settings += ["train.iterations=8"]
    assert finish(start_group(settings, tmp_path / "straight", 2)) == [0, 0], screen(tmp_path / "straight")

    output = tmp_path / "run"
    stopped = start_group(settings, output, 2, {1: Sabotage("step", 2, signal=TERMINATE)})
    assert finish(stopped) == [128 + TERMINATE] * 2
    assert "stopped by SIGTERM; --resume goes on from iteration 3" in screen(output)

    # The other process hears of it from its next exchange, and ends with an error of its own.
    killed = start_group(settings, output, 2, {1: Sabotage("step", 2, signal=KILL)})
    codes = finish(killed)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0

    assert finish(start_group(settings, output, 2)) == [0, 0], screen(output)
    for name in ("model_final.safetensors", "model_best.safetensors"):
        assert_same_bits(tmp_path / "straight" / name, output / name)
    assert losses(output) == losses(tmp_path / "straight")


def test_a_spoilt_loss_on_one_worker_makes_all_leave_the_step_out(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), "train.evaluate_every=0", "train.iterations=4"]
    spoilt = start_group(settings, tmp_path / "run", 2, {1: Sabotage("loss", 2)})
    assert finish(spoilt) == [0, 0], screen(tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/nonfinite.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [3, 3]  # what either process saw
    assert "iteration 3 is left out: rpn_box = nan with images" in screen(tmp_path / "run")


@pytest.mark.slow
def test_an_overflow_on_one_worker_halves_the_scale_of_all(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), "train.precision=float16", "train.iterations=4"]
    group = start_group([*settings, "train.evaluate_every=0"], tmp_path / "run", 2, {1: Sabotage("gradient", 2)})
    assert finish(group) == [0, 0], screen(tmp_path / "run")
    assert "iteration 3 is left out, as a few are in float16" in screen(tmp_path / "run")
    assert not (tmp_path / "run/nonfinite.jsonl").exists()
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    scales = {row["iteration"]: row["loss_scale"] for row in rows if "losses" in row}
    assert scales[3] == scales[2] / 2  # as the main process has it, whose own gradients were finite


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_torchrun_restarts_the_group_after_a_kill(tmp_path: Path, attempt: int) -> None:
    config = tiny_config(write_dataset(tmp_path / "data"), "train.save_every=1", "train.iterations=60")
    save_config(config, tmp_path / "tiny.yaml")
    words = ["--config", str(tmp_path / "tiny.yaml")]
    straight = run(torchrun_command(2, tmp_path / "straight", *words), timeout=1200)
    assert straight.returncode == 0, straight.stderr

    victim = random.Random(attempt).randrange(1, 20)
    # Process 1 of the first attempt ends itself at a step.
    killer = inject(
        tmp_path / "killer",
        "import os\n"
        "if os.environ.get('RANK') == '1' and os.environ.get('TORCHELASTIC_RESTART_COUNT') == '0':\n"
        "    from detector.training import engine\n"
        "    real, count = engine.forward_backward, iter(range(10**6))\n"
        "    def step(*arguments):\n"
        f"        if next(count) == {victim}:\n"
        "            os.kill(os.getpid(), 9)\n"
        "        return real(*arguments)\n"
        "    engine.forward_backward = step\n",
    )
    killed = run(
        torchrun_command(2, tmp_path / "killed", *words, restarts=1),
        timeout=1200,
        TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1",
        **killer,
    )
    assert killed.returncode == 0, killed.stderr
    assert "resuming from" in killed.stdout
    assert_same_bits(tmp_path / "straight/model_final.safetensors", tmp_path / "killed/model_final.safetensors")
