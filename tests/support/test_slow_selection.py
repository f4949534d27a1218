"""Which of the slow tests `.ci/slow` runs."""

import re
from pathlib import Path

import slow_selection
from slow_selection import by_value, drawn, seconds_of

NAMES = [f"tests/fuzz/test_x.py::test_a[{i}]" for i in range(20)] + ["tests/reliability/test_kill.py::test_b"]


def test_promises_about_losing_nothing_come_first_and_nothing_is_left_out() -> None:
    ordered = by_value(["tests/new.py::test", *NAMES])
    assert ordered == [NAMES[-1], *NAMES[:-1], "tests/new.py::test"]


def test_a_draw_is_repeated_by_its_seed_and_another_seed_draws_others() -> None:
    assert drawn(NAMES, 1) == drawn(list(reversed(NAMES)), 1) != drawn(NAMES, 2)
    assert sorted(drawn(NAMES, 1)) == sorted(NAMES)
    assert len({drawn(NAMES, seed)[0] for seed in range(40)}) > 10


def test_what_goes_by_the_clock_is_not_drawn() -> None:
    assert drawn([*NAMES, f"{slow_selection.BY_THE_CLOCK[0]}[x]"], 0) == drawn(NAMES, 0)


def test_the_longest_prefix_says_how_long_a_test_takes() -> None:
    file, one = sorted(p for p in slow_selection.SECONDS if p.startswith("tests/reliability/test_faults.py"))[:2]
    assert seconds_of(one) == slow_selection.SECONDS[one] != seconds_of(f"{file}::another")
    assert seconds_of("tests/new.py::test") == slow_selection.UNKNOWN


def test_every_name_in_the_tables_is_there(project_root: Path) -> None:
    """A test that moves or is renamed would otherwise lose its place in silence."""
    for prefix in (*slow_selection.BY_VALUE, *slow_selection.SECONDS, *slow_selection.BY_THE_CLOCK):
        file, _, function = prefix.partition("::")
        assert (project_root / file).exists(), prefix
        if function:
            name = re.escape(function.partition("[")[0])
            assert re.search(rf"^def {name}\(", (project_root / file).read_text(), re.M), prefix
