"""Fetch a public data set: resumed, checked, unpacked, and laid where the recipes look."""

import argparse
import difflib
from pathlib import Path

from detector.datasets.public_sets.addresses import SETS
from detector.datasets.public_sets.obtain import obtain
from detector.errors import UserError

EXAMPLES = """examples:
  {program}
      list the names
  {program} bccd
      into data/bccd, where configs/r50c4_bccd.yaml looks for it
  {program} coco2017 --output /mnt/big/coco
      somewhere else

What was interrupted goes on where it stopped. DETECTOR_MIRROR=https://host/prefix fetches from a server of your own;
DETECTOR_OFFLINE=1 uses only archives that were put into the folder by hand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="the data set; without a name they are listed")
    parser.add_argument("--output", type=Path, help="folder for its contents (default: data/…, where the recipes look)")


def run(args: argparse.Namespace) -> int:
    """Fetch the set, or list those that there are."""
    if args.name is None:
        print(table())
        return 0
    if args.name not in SETS:
        near = difflib.get_close_matches(args.name, SETS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(SETS)}."
        raise UserError(f"there is no data set {args.name!r} to fetch; {hint}")
    public = SETS[args.name]
    folder = args.output or Path("data") / public.folder
    print(f"data set    {args.name}: {public.what}\nterms       {public.terms}\noutput      {folder}", flush=True)
    obtain(args.name, public, folder)
    print(f"\n{args.name} is in {folder}. Go on with: {public.then}")
    return 0


def table() -> str:
    """The names, how much is fetched, and what it is."""
    width = max(map(len, SETS))
    rows = []
    for name, public in SETS.items():
        size = sum(archive.size for archive in public.archives) / 1e9
        rows.append(f"{name:<{width}}  {size:6.2f} GB  {public.what}")
    return "\n".join(rows)
