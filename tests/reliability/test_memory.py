"""Memory stays where it is: over thousands of steps, and in the processes that load the data.

As a script, which shows the course of it:

    python tests/reliability/test_memory.py --steps 5000 --workers 0
    python tests/reliability/test_memory.py --steps 2000 --workers 4
    python tests/reliability/test_memory.py --steps 2000 --workers 4 --leak worker
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
import pytest
from injection import inject
from processes import children
from tiny_run import environment, tiny_config, train_command, write_dataset

from detector.config import save_config

PICTURES = 400  # 100 steps are an epoch
STARTING = 0.3  # share of the run whose measurements are left out
LIMIT = 5.0  # MB per 1000 steps that growth must surely be under; a leak of LEAK bytes a step is twice as much
LEAK = 10_000

LEAKS = {
    "step": "from detector.training import engine as owner; name = 'forward_backward'",
    "worker": "from detector.datasets.loading.workers import TrainingPictures as owner; name = '__getitem__'",
}
LEAKING = f"""
import os
kept, real = [], getattr(owner, name)
def leak(*arguments, **more):
    kept.append(os.urandom({LEAK}))
    return real(*arguments, **more)
setattr(owner, name, leak)
"""


def measure(folder: Path, steps: int, workers: int, leak: str | None = None) -> np.ndarray:
    """Train, and look at the memory of all its processes twice a second.

    Args:
        leak: where LEAK bytes are lost every step, a key of LEAKS; None: nowhere that we know of.

    Returns:
        [M, 2]: step, and memory in MB of the run with its workers (pages that these share are counted once).
    """
    settings = [f"train.iterations={steps}", f"data.num_workers={workers}", f"train.save_every={steps // 20}"]
    data = write_dataset(folder / "data", train=PICTURES)
    save_config(tiny_config(data, "train.evaluate_every=0", *settings), folder / "tiny.yaml")
    command = train_command(folder / "run", "--config", str(folder / "tiny.yaml"))
    leaking = inject(folder / "leak", LEAKS[leak] + LEAKING) if leak else {}
    found = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment(**leaking)) as process:
        while process.poll() is None:
            time.sleep(0.5)
            step = _last_step(folder / "run")
            size = _size(process.pid)
            if STARTING * steps < step < steps and size > 0:
                found.append((step, size))
    assert process.returncode == 0
    return np.array(found)


def slope(found: np.ndarray) -> tuple[float, float]:
    """MB per 1000 steps by least squares, and its standard error.

    Neighbouring measurements are alike, so the error is that of the means of twenty stretches of the run.
    """
    stretches = [part.mean(axis=0) for part in np.array_split(found, 20)]
    x, y = np.array(stretches).T
    (rate, _), covariance = np.polyfit(x / 1000, y, 1, cov=True)
    return float(rate), float(np.sqrt(covariance[0, 0]))


def _last_step(output: Path) -> int:
    path = output / "metrics.jsonl"
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 2000))
        lines = [line for line in file.read().split(b"\n") if line.startswith(b'{"iteration": ')]
    return int(lines[-1].split(b",")[0].split()[1]) if lines else 0


def _size(pid: int) -> float:
    """Memory in MB of a process and its children: proportional set size, without what belongs to files.

    Of the pages of a library every process of the machine that has it open counts a share, so they come and go.
    """
    total = 0
    try:
        for process in (pid, *children(pid)):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1])
    except OSError:
        return 0.0  # it has ended meanwhile
    return total / 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("steps", "workers"), [(5000, 0), (2000, 4)])  # 2000 steps are 20 epochs
def test_memory_is_flat(tmp_path: Path, steps: int, workers: int) -> None:
    rate, error = slope(measure(tmp_path, steps, workers))
    assert rate + 2 * error < LIMIT, f"{rate:.2f} ± {error:.2f} MB per 1000 steps"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("leak", "workers"), [("step", 0), ("worker", 4)])
def test_a_leak_would_be_seen(tmp_path: Path, leak: str, workers: int) -> None:
    rate, error = slope(measure(tmp_path, 2000, workers, leak))
    assert rate - 2 * error > LIMIT, f"{rate:.2f} ± {error:.2f} MB per 1000 steps"
    assert abs(rate - LEAK * 1000 / 2**20) < LIMIT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--leak", choices=LEAKS, help="lose 10 kB a step there, to see that it shows")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.steps, arguments.workers, arguments.leak)
    rate, error = slope(found)
    for part in np.array_split(found, 10):
        step, size = part.mean(axis=0)
        print(f"step {step:6.0f}: {size:7.1f} MB")
    print(f"{rate:.3f} ± {error:.3f} MB per 1000 steps")


if __name__ == "__main__":
    main()
