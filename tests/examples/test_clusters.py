"""The examples for clusters: a job that SLURM interrupts is put back into the queue, goes on, and comes to its end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_run import PROJECT, environment, tiny_config, write_dataset

from detector.config import save_config

SCRIPT = PROJECT / "examples" / "slurm.sh"

# As SLURM's own would: two tasks at once, their numbers in the environment; the highest exit code is srun's.
SRUN = """#!/usr/bin/env bash
shift
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 "$@" &
  pids="${pids:-} $!"
done
echo $pids > "$TASKS"
highest=0
for pid in $pids; do
  wait "$pid"; code=$?
  [ "$code" -gt "$highest" ] && highest=$code
done
exit "$highest"
"""
SCONTROL = """#!/usr/bin/env bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$REQUEUED"; fi
"""


def install(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def job(tmp_path: Path, words: list[str]) -> "subprocess.Popen[bytes]":
    """Start the job's script with a pretended SLURM."""
    commands = tmp_path / "bin"
    install(commands, "srun", SRUN)
    install(commands, "scontrol", SCONTROL)
    install(commands, "faster-rcnn", f'#!/usr/bin/env bash\nexec {sys.executable} -m detector "$@"\n')
    slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node[1-1]"}
    files = {"TASKS": str(tmp_path / "tasks"), "REQUEUED": str(tmp_path / "requeued")}
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", str(SCRIPT), *words], env=environment() | slurm | files | {"PATH": path}, start_new_session=True
    )


@pytest.mark.slow
def test_an_interrupted_job_is_requeued_and_goes_on(tmp_path: Path) -> None:
    config = tmp_path / "recipe.yaml"
    save_config(tiny_config(write_dataset(tmp_path / "data")), config)
    output = tmp_path / "run"
    words = ["--config", str(config), "--output", str(output), "--device", "cpu", "train.iterations=60"]
    words += ["train.evaluate_every=0", "train.batch_size=4", "train.save_every=1000"]
    first = job(tmp_path, words)
    metrics = output / "metrics.jsonl"
    end = time.monotonic() + 300
    while not (metrics.is_file() and metrics.read_text().count("\n") >= 3):
        assert first.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    for pid in (tmp_path / "tasks").read_text().split():
        os.kill(int(pid), signal.SIGUSR1)
    assert first.wait(300) == 138
    assert (tmp_path / "requeued").read_text() == f"requeue {os.getpid()}\n"
    stopped_at = json.loads(metrics.read_text().splitlines()[-1])["iteration"]
    assert stopped_at < 60
    assert job(tmp_path, words).wait(300) == 0
    assert (tmp_path / "requeued").read_text().count("\n") == 1
    assert (output / "model_final.safetensors").is_file()
    rows = [json.loads(line)["iteration"] for line in metrics.read_text().splitlines() if "loss" in line]
    assert sorted(set(rows)) == list(range(1, 61))


@pytest.mark.slow
def test_a_failure_is_not_requeued(tmp_path: Path) -> None:
    assert job(tmp_path, ["--config", str(tmp_path / "absent.yaml")]).wait(120) == 2
    assert not (tmp_path / "requeued").exists()


@pytest.mark.slow
def test_a_pod_that_has_to_leave_saves_and_the_next_one_goes_on(tmp_path: Path) -> None:
    config = tmp_path / "recipe.yaml"
    save_config(tiny_config(write_dataset(tmp_path / "data")), config)
    output = tmp_path / "run"
    schedule = ["train.iterations=60", "train.evaluate_every=0", "train.save_every=1000"]
    metrics = output / "metrics.jsonl"
    first = pod(config, output, schedule)
    end = time.monotonic() + 300
    while not (metrics.is_file() and metrics.read_text().count("\n") >= 3):
        assert first.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    assert first.wait(120) != 0  # so that the pod starts again
    (checkpoint,) = (output / "checkpoints").iterdir()
    stopped_at = json.loads((checkpoint / "progress.json").read_text())["progress"]["iteration"]
    assert 3 <= stopped_at < 60
    assert pod(config, output, schedule).wait(300) == 0
    assert f"going on after iteration {stopped_at}" in (output / "log.txt").read_text()
    assert [row["iteration"] for row in map(json.loads, metrics.read_text().splitlines()) if "loss" in row] == list(
        range(1, 61)
    )


def pod(config: Path, output: Path, words: list[str]) -> "subprocess.Popen[bytes]":
    """Start the container's command as one machine of two processes."""
    _, task = yaml.safe_load_all((PROJECT / "examples" / "kubernetes.yaml").read_text())
    container = task["spec"]["template"]["spec"]["containers"][0]
    here = {
        "--nnodes": "1",
        "--nproc-per-node": "2",
        "--rdzv-endpoint": "127.0.0.1:0",
        "--config": str(config),
        "--output": str(output),
    }
    command = [sys.executable, "-m", "torch.distributed.run"]
    for word in container["command"][1:]:
        key, equals, _ = word.partition("=")
        command.append(f"{key}={here[key]}" if equals and key in here else word)
    variables = {one["name"]: one["value"] for one in container["env"]}
    return subprocess.Popen([*command, "--device=cpu", *words], env=environment(**variables), start_new_session=True)


def test_the_pods_resume_and_have_time_to_save() -> None:
    service, task = yaml.safe_load_all((PROJECT / "examples" / "kubernetes.yaml").read_text())
    pod = task["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert command[0] == "torchrun"
    assert "--resume" in command
    assert command[command.index("-m") + 1 : command.index("-m") + 3] == ["detector", "train"]
    assert f"--nnodes={task['spec']['completions']}" in command
    assert f"--rdzv-endpoint={task['metadata']['name']}-0.{service['metadata']['name']}:29500" in command
    grace = pod["terminationGracePeriodSeconds"]
    assert grace >= 300
    variables = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert (
        200 <= int(variables["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < grace
    )  # torchrun itself kills after 30 seconds else
    assert pod["restartPolicy"] == "OnFailure"
