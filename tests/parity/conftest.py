"""Largest differences of every quantity, shown with `pytest -v` and written to the JUnit report."""

from collections.abc import Callable

import pytest
from comparison import Comparison, ExpectEqual, table

LARGEST: pytest.StashKey[dict[str, float]] = pytest.StashKey()


@pytest.fixture
def expect_equal(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> ExpectEqual:
    """Fails on mismatches, all of them at once, and keeps the differences for the summary."""
    largest = request.config.stash.setdefault(LARGEST, {})

    def check(found: Comparison, group: str) -> None:
        for name, difference in found.largest.items():
            record_property(f"largest difference, {name}", difference)
            key = f"{group}: {name}"
            largest[key] = max(difference, largest.get(key, 0.0))
        assert not found.mismatches, "\n".join(found.mismatches)

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    largest = terminalreporter.config.stash.get(LARGEST, {})
    if largest and terminalreporter.verbosity > 0:
        terminalreporter.section("largest differences from the references")
        terminalreporter.write_line(table(sorted(largest.items())))
