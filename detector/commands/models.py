"""List the published weights: the names that --weights takes, what they are, and which of them are cached."""

import argparse

EXAMPLES = """examples:
  {program}

A name is fetched once, when it is first used, into the cache folder: ~/.cache/detector, or that of DETECTOR_CACHE."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No words beyond --help."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Print the table, and where the cache folder is."""
    del args
    from detector.weights.published.cache import cache_folder, cached_path
    from detector.weights.published.catalogue import PUBLISHED

    width = max(map(len, PUBLISHED))
    print(f"{'name':<{width}}  {'network':<20}  {'COCO AP':>7}  {'MiB':>5}  cached")
    for name, published in PUBLISHED.items():
        network = f"ResNet-{published.depth}" + ("-C4 detector" if published.is_detector else " backbone")
        ap = "" if published.ap is None else f"{published.ap:.1f}"
        size = "" if published.megabytes is None else f"{published.megabytes:.0f}"
        is_cached = cached_path(name, published).is_file()
        print(f"{name:<{width}}  {network:<20}  {ap:>7}  {size:>5}  {'yes' if is_cached else 'no'}")
    print(f"\ncache folder {cache_folder()}\nCOCO AP: of boxes on val2017, as their authors measured it")
    return 0
