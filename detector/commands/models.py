"""List the published weights: the names that --weights takes, what they are, and which of them are cached."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detector.weights.published.entry import Published

EXAMPLES = """examples:
  {program}
  {program} --markdown     the detectors as a table for a page, with their addresses

A name is fetched once, when it is first used, into the cache folder: ~/.cache/detector, or that of DETECTOR_CACHE."""

FOOTNOTE = "COCO AP: of boxes on val2017, as their authors measured it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("--markdown", action="store_true", help="print the detectors as a Markdown table")


def run(args: argparse.Namespace) -> int:
    """Print the table, and where the cache folder is."""
    from detector.weights.published.cache import cache_folder, cached_path
    from detector.weights.published.catalogue import PUBLISHED

    if args.markdown:
        print("\n".join(markdown_rows()))
        return 0
    names = max(map(len, PUBLISHED))
    networks = max(len(published.description) for published in PUBLISHED.values())
    print(f"{'name':<{names}}  {'network':<{networks}}  {'lineage':<11}  {'COCO AP':>7}  {'MiB':>5}  cached")
    for name, published in PUBLISHED.items():
        size = "" if published.megabytes is None else f"{published.megabytes:.0f}"
        is_cached = cached_path(name, published).is_file()
        print(
            f"{name:<{names}}  {published.description:<{networks}}  {published.kind:<11}  {_ap(published):>7}  "
            f"{size:>5}  {'yes' if is_cached else 'no'}"
        )
    print(f"\ncache folder {cache_folder()}\n{FOOTNOTE}")
    return 0


def markdown_rows() -> Iterator[str]:
    """The lines of a Markdown table of the detectors: name, network, lineage, AP, checksum, address."""
    from detector.weights.published.catalogue import PUBLISHED

    yield "| name | network | lineage | AP on val2017 (published) | file |"
    yield "| --- | --- | --- | --- | --- |"
    for name, published in PUBLISHED.items():
        if published.is_detector:
            file = f"[{published.url.rpartition('/')[2]}]({published.url})"
            yield f"| `{name}` | {published.description} | {published.kind} | {_ap(published)} | {file} |"


def _ap(published: Published) -> str:
    return "" if published.ap is None else f"{published.ap:.1f}"
