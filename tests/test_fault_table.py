"""docs/faults.md names the tests that hold each fault: they exist."""

import re
from pathlib import Path


def test_every_test_in_the_table_exists(project_root: Path) -> None:
    text = (project_root / "docs/faults.md").read_text()
    names = re.findall(r"`([\w/]+\.py)(?:::(test_\w+))?`", text)
    assert len(names) > 50
    for file, test in names:
        path = project_root / "tests" / file
        assert path.is_file(), file
        assert not test or f"def {test}(" in path.read_text(), f"{file}::{test}"
