"""The part of `predict` that detects in pictures: alone or as one of several processes, from the start or going on."""

import argparse
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector import process_group
from detector.commands.tile_words import tiling_of
from detector.errors import UserError
from detector.inference.batches import in_batches
from detector.inference.detections import Detections
from detector.inference.inputs import Input
from detector.inference.output_folder import OutputFolder
from detector.inference.picture_log import Entry
from detector.inference.picture_work import Work, check_complete, joined_results, work_left
from detector.inference.predictor import Predictor
from detector.inference.read_ahead import detect_all
from detector.inference.tiles import detect_files_tiled, fitted
from detector.printing import columns_of, pad, printable

# Why a picture was not read, or what is drawn on and what was found.
Outcome = UserError | tuple[np.ndarray, Detections]


class PictureJob:
    """Detecting in a list of pictures, into an output folder. Every process of several has one, and calls it equally.

    Args:
        predictor: what detects.
        pictures: each with the file for its annotated copy.
        folder: that the files are written into; it exists.
        args: the words of the command line.
        batch_size: pictures that go through the network together; with tiles, tiles of one picture.
        origins: what messages call a picture, by its path, where that is not its path.
    """

    def __init__(
        self,
        predictor: Predictor,
        pictures: Sequence[tuple[Input, Path]],
        folder: OutputFolder,
        args: argparse.Namespace,
        batch_size: int,
        origins: Mapping[str, str],
    ) -> None:
        self.predictor = predictor
        self.pictures = pictures
        self.folder = folder
        self.args = args
        self.batch_size = batch_size
        self.origins = origins
        self.tiling = tiling_of(args)
        self.entries: list[Entry] = []  # what each picture is, as the main process sees it; no detections
        self.work = Work([], [])  # of all processes

    @property
    def together(self) -> int:
        """Pictures whose detections are written together, since they can depend on each other in their last bits."""
        return 1 if self.tiling else self.batch_size

    def prepare(self, made: Mapping[str, Any]) -> str:
        """Make the folder ready, and know what is to be done; returns a remark about the folder for people.

        Args:
            made: what the detections will be made with.

        Raises:
            UserError: an input would be deleted; what is there was made with something else; nothing can be written.
        """
        self.entries, self.work, remark = process_group.on_main(lambda: self._prepared(made))
        return remark

    def _prepared(self, made: Mapping[str, Any]) -> tuple[list[Entry], Work, str]:
        entries = [
            Entry.of(one.path, output.relative_to(self.folder.folder).as_posix(), one.name)
            for one, output in self.pictures
        ]
        if self.args.skip_done:
            self.folder.go_on(made)
            work = work_left(entries, self.folder.log.entries())
            done = len(entries) - len(work.fresh) - len(work.again)
            return entries, work, f" ({done} of {len(entries)} pictures are done already)"
        deleted = self.folder.clear([one.path for one, _ in self.pictures])
        self.folder.log.begin(made)
        remark = f" ({deleted} pictures of an earlier prediction deleted)" if deleted else ""
        return entries, work_left(entries, {}), remark

    def run(self) -> list[str]:
        """Detect and write; returns why pictures were left out, of all processes, to each of them.

        A process alone that is interrupted leaves the results until then, as a whole file; several leave none of this
        run, as the main one cannot know what the others have.

        Raises:
            UserError: there is no room; what another process wrote is not here.
        """
        start = time.perf_counter()
        if process_group.world_size() == 1:
            try:
                self._detect(self.work)
            finally:
                left_out = self._finish(start)
            return left_out
        self._detect(self.work.share(self.together, process_group.rank(), process_group.world_size()))
        process_group.barrier()
        return process_group.on_main(lambda: self._finish(start))

    def _finish(self, start: float) -> list[str]:
        """Join what all processes have done; returns why pictures were left out. Raises UserError as `run`."""
        done = self.folder.log.entries()
        if process_group.world_size() > 1:
            check_complete(self.entries, done, self.folder.folder)
        results = joined_results(self.entries, done)
        self.folder.save_results(results)
        self.folder.log.merge()
        own = [done[entry.output] for entry in self.entries if entry.output in done]
        found = [entry.detections for entry in own if entry.detections is not None]
        objects, seconds = sum(map(len, found)), time.perf_counter() - start
        earlier = len(self.entries) - len(self.work.fresh) - len(self.work.again)
        before = f", {earlier} of them by an earlier run" if earlier else ""
        where = printable(self.folder.folder)
        print(f"{len(found)} of {len(self.entries)} pictures{before}, {objects} objects, {seconds:.1f} s; see {where}")
        if others := len(done) - len(own):
            print(f"{others} other pictures of earlier runs are kept, {len(results) - objects} objects")
        return [entry.problem for entry in own if entry.detections is None]

    def _detect(self, work: Work) -> None:
        """Detect in pictures, and write what comes of each batch: first its line, so no picture is without it."""
        total = len(work.fresh) + len(work.again)
        shown = total > 1 and process_group.is_main()
        with tqdm(total=total, unit="picture", disable=None if shown else True) as progress:
            for numbers in (work.fresh, work.again):
                with closing(self._outcomes(numbers)) as outcomes:  # whatever ends this, nothing reads on behind it
                    for some in in_batches(numbers, self.together):
                        self._write([(number, next(outcomes)) for number in some], progress)

    def _write(self, batch: Sequence[tuple[int, Outcome]], progress: "tqdm[Any]") -> None:
        self.folder.log.append([self._entry(number, outcome) for number, outcome in batch])
        for number, outcome in batch:
            self._show_and_draw(number, outcome, progress)
            progress.update()

    def _outcomes(self, numbers: Sequence[int]) -> Generator[Outcome, None, None]:
        paths = [self.pictures[number][0].path for number in numbers]
        how = (self.args.score_threshold, self.batch_size, self.args.augment or None)
        if self.tiling is None:
            detecting = detect_all(self.predictor, paths, *how)
        else:
            detecting = detect_files_tiled(self.predictor, paths, self.tiling, *how)
        with closing(detecting) as outcomes:
            for path, outcome in zip(paths, outcomes, strict=True):
                yield self._renamed(outcome, str(path))

    def _renamed(self, outcome: Outcome, path: str) -> Outcome:
        """A problem told of what the user has named."""
        if not isinstance(outcome, UserError) or path not in self.origins:
            return outcome
        return UserError(str(outcome).replace(path, self.origins[path]))

    def _entry(self, number: int, outcome: Outcome) -> Entry:
        entry = self.entries[number]
        if isinstance(outcome, UserError):
            return replace(entry, problem=str(outcome))
        return replace(entry, detections=describe_results(outcome[1], entry.name))

    def _show_and_draw(self, number: int, outcome: Outcome, progress: "tqdm[Any]") -> None:
        one, output = self.pictures[number]
        if isinstance(outcome, UserError):
            progress.write(f"left out: {outcome}", file=sys.stderr)
            return
        image, detections = outcome
        progress.write(table(one.name, detections), file=sys.stdout)
        self.folder.save_picture(output, fitted(detections, (image.shape[0], image.shape[1])).draw(image))


def table(name: str, detections: Detections) -> str:
    """The detections of one picture, for people: aligned columns, boxes in pixels of the original image."""
    height, width = detections.image_size
    lines = [f"{printable(name)}  {width} × {height}, {len(detections)} found"]
    if len(detections):
        names = [printable(class_name, limit=60) for class_name in detections.names]
        column = max(columns_of(text) for text in ("class", *names))
        lines.append(f"  {pad('class', column)}  score {'x1':>8} {'y1':>8} {'x2':>8} {'y2':>8}")
        for class_name, score, box in zip(names, detections.scores.tolist(), detections.boxes.tolist(), strict=True):
            lines.append(f"  {pad(class_name, column)}  {score:.3f} " + " ".join(f"{value:8.1f}" for value in box))
    return "\n".join(lines) + "\n"


def describe_results(detections: Detections, name: str) -> list[dict[str, Any]]:
    """COCO results without image_id, boxes [x, y, width, height] in pixels of the original image, with names added."""
    return [
        {key: value for key, value in result.items() if key != "image_id"}
        | {"file_name": name, "category_name": category_name}
        for result, category_name in zip(detections.to_coco(0), detections.names, strict=True)
    ]
