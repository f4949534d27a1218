"""Pictures in, detections out: a trained model with all that a user should not have to think about."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from detector.arithmetic import AskedPrecision, computing_type, detection_precision
from detector.categories import CategoryMap, match_categories
from detector.config import Config
from detector.errors import UserError
from detector.fast.fuse import fuse
from detector.inference.asked import as_fraction, check_plain
from detector.inference.augmented import Augment, Detecting, choose_detecting
from detector.inference.detections import Detections
from detector.inference.ensemble import Member
from detector.inference.same_size import detect_alike, prepare
from detector.inference.sources import Channels, Picture, named
from detector.inference.streaming import in_batches_of_one_order, pictures_in
from detector.inference.tiles import Tiling, predict_tiled
from detector.model.faster_rcnn import FasterRCNN

if TYPE_CHECKING:
    from detector.evaluation.coco_eval import CocoMetrics, Evaluator
    from detector.export.exporting import Exported

log = logging.getLogger(__name__)


class Predictor:
    """A model with its config, categories and provenance.

    Pictures of a list go through the network together only where their network inputs have the same size: padding
    would change the numbers a little (features near the border, anchors in the padding). So a list gives what its
    pictures give one by one, up to the rounding of a batched convolution.

    Args:
        model: with its weights loaded, on its device; it is put into evaluation mode.
        config: how the model was made, and how pictures are prepared for it.
        categories: what labels 1..K mean.
        provenance: what trained the weights.
        fast: predict with the fast execution of the model. It is made here, with copies of the parameters: later
            changes of the model do not reach it. False predicts with the model itself.
        precision: float32, tf32 (on an NVIDIA GPU), bfloat16 (with `fast`), or auto (`arithmetic.py`).
        compiled: compile the fast execution with `torch.compile`.

    Raises:
        UserError: bfloat16 or compiled without `fast`; tf32 on another device than a CUDA one.
    """

    def __init__(
        self,
        model: FasterRCNN,
        config: Config,
        categories: CategoryMap,
        provenance: Mapping[str, Any] | None = None,
        fast: bool = True,
        precision: AskedPrecision = "auto",
        compiled: bool = False,
    ) -> None:
        check_plain(fast, precision, compiled)
        self.precision = detection_precision(precision, model.device, fast)
        self.model = model.eval()
        self.network = fuse(model, computing_type(self.precision), compiled) if fast else model
        # An ensemble, which `load.join` makes, has more than one.
        self.members: tuple[Member, ...] = (Member(self.network, config.input),)
        self.config = config
        self.categories = categories
        self.provenance = dict(provenance or {})

    def __repr__(self) -> str:
        count = len(self.categories)
        models = f"{len(self.members)} models, the first " if len(self.members) > 1 else ""
        return f"Predictor({models}{self.config.model.network}, {count} classes, {self.device}, {self.precision})"

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.model.device

    @property
    def default_batch_size(self) -> int:
        """1 on the CPU, where more pictures at once are no faster and take more memory; 4 elsewhere."""
        return 1 if self.device.type == "cpu" else 4

    @property
    def names(self) -> list[str]:
        """K class names; the name of label l is `names[l - 1]`."""
        return self.categories.names

    @overload
    def predict(
        self,
        source: Picture,
        score_threshold: float = ...,
        batch_size: int | None = ...,
        channels: Channels = ...,
        augment: Augment = ...,
        tile: int | None = ...,
        tile_overlap: float = ...,
    ) -> Detections: ...

    @overload
    def predict(
        self,
        source: list[Any] | tuple[Any, ...],
        score_threshold: float = ...,
        batch_size: int | None = ...,
        channels: Channels = ...,
        augment: Augment = ...,
        tile: int | None = ...,
        tile_overlap: float = ...,
    ) -> list[Detections]: ...

    @overload
    def predict(
        self,
        source: Any,
        score_threshold: float = ...,
        batch_size: int | None = ...,
        channels: Channels = ...,
        augment: Augment = ...,
        tile: int | None = ...,
        tile_overlap: float = ...,
        *,
        stream: Literal[True],
    ) -> Iterator[Detections]: ...

    def predict(
        self,
        source: Any,
        score_threshold: float = 0.5,
        batch_size: int | None = None,
        channels: Channels = "rgb",
        augment: Augment = None,
        tile: int | None = None,
        tile_overlap: float = 0.2,
        *,
        stream: bool = False,
    ) -> Detections | list[Detections] | Iterator[Detections]:
        """Detect objects in one picture, or in each of a list.

        Args:
            source: a path, the bytes of an image file, an [H, W, 3] uint8 array, a PIL image, a [3, H, W] uint8 tensor;
                or a list of these. Paths, bytes and PIL images are turned upright by their EXIF orientation.
            score_threshold: detections scoring less are left out. What scores at most
                `config.model.detection.score_threshold` never leaves the network.
            batch_size: how many pictures of a list at most go through the network together (`default_batch_size`).
            channels: the order of colours in arrays and tensors. What `cv2.imread` returns is "bgr": taken as "rgb", as
                an array is without this word, its colours would be exchanged and detections worse, without an error.
            augment: look at each picture several times: True, a form, or a `ViewsConfig`; see `docs/more_ap.md`.
            tile: look at larger pictures tile by tile too; the edge of a tile, in pixels of the original image.
            tile_overlap: of neighbouring tiles, as a share of their edge.
            stream: take anything that gives pictures, a folder, a video, camera:0 and generators too
                (`streaming.pictures_in`), and yield the detections of one after the other, without keeping them.

        Returns:
            `Detections` with boxes in pixels of the original image; a list of them for a list, an iterator for a
            stream. They refer to the picture that was given, so that they can be drawn.

        Raises:
            UserError: a picture cannot be read or is of another form; the message says which.
        """
        score_threshold = as_fraction(score_threshold, "score_threshold")
        if batch_size is None:
            batch_size = self.default_batch_size
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: choose 1 or more.")
        if stream:
            return self._stream(source, score_threshold, batch_size, channels, augment, tile, tile_overlap)
        detecting = self.detecting(augment)
        is_list = isinstance(source, (list, tuple))
        pictures = source if is_list else [source]
        if tile is None:
            detections = self._predict_list(detecting, pictures, score_threshold, batch_size, channels)
        else:
            tiling = Tiling(tile, tile_overlap)
            detections = []
            for number, picture in enumerate(pictures):
                with named(picture, number, len(pictures)):
                    one = predict_tiled(self, picture, tiling, score_threshold, batch_size, channels, augment)
                    detections.append(one)
        return detections if is_list else detections[0]

    def _stream(
        self,
        source: Any,
        score_threshold: float,
        batch_size: int,
        channels: Channels,
        augment: Augment,
        tile: int | None,
        tile_overlap: float,
    ) -> Iterator[Detections]:
        """`predict` for what `pictures_in` finds in the source, batch by batch."""
        for pictures, order in in_batches_of_one_order(pictures_in(source, channels), batch_size):
            yield from self.predict(pictures, score_threshold, batch_size, order, augment, tile, tile_overlap)

    def detecting(self, augment: Augment = None) -> Detecting:
        """The network that detects, and how its pictures are prepared; see `augmented.choose_detecting`."""
        return choose_detecting(self.members, self.config.model.detection, augment)

    __call__ = predict

    def evaluate(
        self,
        annotations: str | Path,
        images: str | Path,
        batch_size: int | None = None,
        evaluator: "Evaluator" = "pycocotools",
        progress: bool = True,
        augment: Augment = None,
    ) -> "CocoMetrics":
        """COCO mAP on annotated pictures, as the command `evaluate` scores them.

        Args:
            annotations: COCO's JSON, VOC's folder or list of names, or YOLO's data.yaml or labels folder.
            images: folder of the pictures that the annotations name.
            batch_size: pictures per pass at most (`default_batch_size`).
            evaluator: pycocotools, or hotcoco for the same numbers faster.
            progress: show a bar with rate and remaining time.
            augment: as for `predict`.

        Raises:
            UserError: the annotations cannot be read, or are of other categories than the model's; or many pictures
                cannot. A few that cannot are the metrics' `unreadable`.
        """
        from detector.datasets.formats.open_dataset import guess_format, open_dataset
        from detector.datasets.loading.loader import evaluation_loader
        from detector.evaluation.coco_eval import evaluate_coco
        from detector.evaluation.ground_truth import ground_truth_of
        from detector.inference.detect import detect_dataset

        size = self.default_batch_size if batch_size is None else batch_size
        dataset = open_dataset(guess_format(Path(annotations)), annotations, images)
        categories = match_categories(self.categories, dataset.categories)
        detecting = self.detecting(augment)
        prepared = replace(self.config, input=detecting.input)
        loader = evaluation_loader(dataset, prepared, size, device=self.device, warn=log.warning)
        detections = detect_dataset(detecting.network, loader, self.device, categories, progress, self.precision)
        return evaluate_coco(ground_truth_of(dataset), detections, evaluator, unreadable=loader.left_out.said)

    def export(self, path: str | Path) -> "Exported":
        """Write the detector as a file that other programs run, if that file finds the same.

        Args:
            path: a file .onnx or .pt2, or a folder for OpenVINO.

        Returns:
            What was written and how it compares; nothing was written where `comparison.differences` names any.

        Raises:
            UserError: there is no such format, a package that it needs is missing, or the file cannot be written; or
                this is an ensemble.
        """
        from detector.export.exporting import export

        if len(self.members) > 1:
            raise UserError(f"an ensemble of {len(self.members)} models is not exported; export each by itself.")
        return export(self.model, self.config, self.categories, self.provenance, Path(path))

    def _predict_list(
        self,
        detecting: Detecting,
        sources: Sequence[Picture],
        score_threshold: float,
        batch_size: int,
        channels: Channels,
    ) -> list[Detections]:
        """The detections of each picture, without those that score less."""
        prepared = prepare(sources, channels, self.config.input, detecting.input)
        of_each = detect_alike(detecting, prepared, batch_size, self.categories, self.device, self.precision)
        return [detections.at_least(score_threshold) for detections in of_each]
