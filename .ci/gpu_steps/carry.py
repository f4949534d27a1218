"""Collect what a GPU machine without a network needs, into one folder of which all is to be carried there."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTE = 2**20

# What a machine with PyTorch's usual company lacks, for CPython 3.12 on x86-64 Linux, at versions that go together.
WHEELS = (
    "albucore==0.0.24",
    "albumentations==2.0.8",
    "annotated-types==0.8.0",
    "defusedxml==0.7.1",
    "filelock==4.3.1",
    "hotcoco==1.3.0",
    "pycocotools==2.0.11",
    "pydantic==2.14.4",
    "pydantic-core==2.50.5",
    "simsimd==6.5.16",
    "stringzilla==5.3.2",
    "typing-inspection==0.4.5",
)
GLIBC = (17, 24, 27, 28, 31, 34)  # pip matches a wheel's platform exactly

# Of the shared folder, in the order in which they are worth their room.
NEEDED = ("data/bccd", "data/weights/resnet50_c4_msra_fp16.pth", "fixtures/detectron2")
PYRAMIDS = (
    "MANIFEST.json",
    "images",
    "fpn_r50_w3_c5",
    "train_fpn_r50_w3_c5",
    "fpn_x50_g4_w1_c3",
    "dc5_r50_w3_c4",
    "fpn_r101_w2_c80_large",
)
WHERE_THERE_IS_ROOM = tuple(f"fixtures/detectron2_fpn/{name}" for name in PYRAMIDS)


def main() -> int:
    """Fill the folder; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / ".gpu", help="folder, replaced (default: .gpu)")
    parser.add_argument("--limit", type=int, default=64, help="MiB, of the folder and the tree together (%(default)s)")
    parser.add_argument("--no-wheels", action="store_true", help="leave the wheels out")
    args = parser.parse_args()
    shared = Path(os.environ.get("DETECTOR_SHARED", ROOT.parent / "shared"))
    missing = [name for name in NEEDED if not (shared / name).exists()]
    if missing:
        print(f"error: {shared} lacks {', '.join(missing)}; set DETECTOR_SHARED to the shared data.", file=sys.stderr)
        return 2
    if args.output.exists() and not (args.output / "shared").is_dir() and any(args.output.iterdir()):
        print(f"error: {args.output} is not a folder of this script; choose another --output.", file=sys.stderr)
        return 2
    shutil.rmtree(args.output, ignore_errors=True)
    (args.output / "shared").mkdir(parents=True)
    if not args.no_wheels:
        download_wheels(args.output / "wheels")
    for name in NEEDED:
        copy(shared / name, args.output / "shared" / name)
    room = args.limit * MEBIBYTE - size_of_tree()
    for name in WHERE_THERE_IS_ROOM:
        fits = (shared / name).exists() and size(args.output) + size(shared / name) <= room - MEBIBYTE
        if fits:
            copy(shared / name, args.output / "shared" / name)
        print(f"{name}: {'carried' if fits else 'left out'}")
    total = size(args.output)
    print(f"{args.output}: {total / MEBIBYTE:.1f} MiB, with the tree {(total + size_of_tree()) / MEBIBYTE:.1f} MiB")
    if total > room:
        print(f"error: more than {args.limit} MiB; carry less.", file=sys.stderr)
        return 2
    return 0


def download_wheels(folder: Path) -> None:
    """Fetch them with pip, each alone. Raises CalledProcessError where one cannot be had."""
    platforms = [word for n in GLIBC for word in ("--platform", f"manylinux_2_{n}_x86_64")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", *platforms]
    command += ["--platform", "manylinux2014_x86_64", "--dest", str(folder), *WHEELS]
    subprocess.run(command, check=True)


def copy(source: Path, target: Path) -> None:
    """A file, or a folder with all that is in it, writable whatever the original is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
    for path in files:
        place = target / path.relative_to(source) if source.is_dir() else target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file())


def size_of_tree() -> int:
    """Bytes of all files that git knows or would add."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    return sum(size(ROOT / os.fsdecode(name)) for name in listed if name)


if __name__ == "__main__":
    sys.exit(main())
