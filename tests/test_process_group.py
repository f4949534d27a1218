import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detector import process_group
from detector.errors import UserError

PROCESS = """
import torch
from torch import nn
from detector.errors import UserError
from detector import process_group as d

device = d.start("cpu")
me = d.rank()
assert (device.type, d.world_size(), d.is_main()) == ("cpu", 2, me == 0)
assert d.mean_over_processes(torch.tensor([1.0 + 2 * me])).tolist() == [2.0]
assert d.maximum_over_processes([me, 0, 5 - me]) == [1, 0, 5]
assert d.gather({"rank": me}) == [{"rank": 0}, {"rank": 1}]
assert d.from_main(f"from {me}") == "from 0"
assert d.on_main(lambda: me * 10) == 0

def fail():
    raise UserError("the disk is full.")

try:
    d.on_main(fail)
except UserError as error:
    assert str(error) == "the disk is full."
else:
    raise AssertionError("every process must hear of it")

norm = nn.BatchNorm2d(2)
norm(torch.full((1, 2, 2, 2), 10.0 * (me + 1)))
d.copy_buffers_from_main(norm)
assert norm.running_mean.tolist() == [1.0, 1.0], norm.running_mean
d.barrier()
d.stop()
assert d.world_size() == 1
print(f"process {me} is through", flush=True)
"""


def test_two_processes(tmp_path: Path) -> None:
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "process 0 is through" in done.stdout
    assert "process 1 is through" in done.stdout


def test_alone_everything_is_the_identity() -> None:
    assert process_group.start("cpu") == torch.device("cpu")
    assert (process_group.rank(), process_group.world_size(), process_group.is_main()) == (0, 1, True)
    value = torch.tensor([1.5], requires_grad=True)
    mean = process_group.mean_over_processes(value)
    assert mean.tolist() == [1.5]
    assert not mean.requires_grad
    assert process_group.maximum_over_processes([3, 0]) == [3, 0]
    assert process_group.gather("a") == ["a"]
    assert process_group.from_main("a") == "a"
    assert process_group.on_main(lambda: 3) == 3
    process_group.copy_buffers_from_main(nn.BatchNorm2d(1))
    process_group.barrier()
    process_group.stop()


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(UserError, match="process 3 of this machine, which has 1 GPUs; use --nproc-per-node=1"):
        process_group.start("cuda")
