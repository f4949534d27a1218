"""Largest differences of every quantity, shown with `pytest -v` and written to the JUnit report."""

from collections.abc import Callable, Iterator

import pytest
from comparison import Comparison, ExpectEqual, table

LARGEST: pytest.StashKey[dict[str, float]] = pytest.StashKey()


@pytest.fixture(scope="session")
def largest_differences(
    request: pytest.FixtureRequest, record_testsuite_property: Callable[[str, object], None]
) -> Iterator[dict[str, float]]:
    """Quantity → largest difference of all tests so far; at the end they are properties of the report's test suite.

    Of the suite and not of each test, because the JUnit schema knows no properties of a test.
    """
    largest = request.config.stash.setdefault(LARGEST, {})
    yield largest
    for name, difference in sorted(largest.items()):
        record_testsuite_property(f"largest difference, {name}", difference)


@pytest.fixture
def expect_equal(largest_differences: dict[str, float]) -> ExpectEqual:
    """Fails on mismatches, all of them at once, and keeps the differences for the summary."""

    def check(comparison: Comparison, group: str) -> None:
        for name, difference in comparison.largest.items():
            key = f"{group}: {name}"
            largest_differences[key] = max(difference, largest_differences.get(key, 0.0))
        assert not comparison.mismatches, "\n".join(comparison.mismatches)

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    largest = terminalreporter.config.stash.get(LARGEST, {})
    if largest and terminalreporter.verbosity > 0:
        terminalreporter.section("largest differences from the references")
        terminalreporter.write_line(table(sorted(largest.items())))
