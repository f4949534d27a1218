"""From nothing to the first picture's detections, each time in a new process."""

import tempfile
from pathlib import Path
from statistics import median

from PIL import Image

from benchmarking import first_picture
from benchmarking.measurements import Report
from benchmarking.peak_memory import in_new_process
from benchmarking.peer import build_pair
from benchmarking.sample_pictures import load_picture, smaller, variants
from benchmarking.what_to_measure import Settings
from detector.categories import CategoryMap
from detector.weights.files import save_weights

TABLE = "start-up"
ROUNDS = 3


def run(settings: Settings, report: Report) -> None:
    """Makes weights and a picture, then starts processes on them."""
    depth, classes, proposals = settings.depths[0], settings.num_classes, max(settings.proposals)
    picture = load_picture(settings.picture, settings.size)
    pair = build_pair(smaller(variants(picture, 1)[0]), settings.size, depth, classes, proposals, 512, settings.kind)
    categories = CategoryMap.from_coco([{"id": i, "name": str(i)} for i in range(1, classes + 1)])
    with tempfile.TemporaryDirectory() as folder:
        weights, file = Path(folder, "model.safetensors"), Path(folder, "picture.png")
        save_weights(weights, pair.model.state_dict(), pair.config, categories, {})
        Image.fromarray(picture).save(file)
        arguments = {"weights": str(weights), "picture": str(file), "device": str(settings.device)}
        # -P: the modules beside the script must not stand for others.
        program = ["-P", first_picture.__file__]
        rounds = [in_new_process(program, arguments) for _ in range(min(settings.rounds, ROUNDS))]
    row = {name: median(taken[name] for taken in rounds) for name in rounds[0]}
    report.add(TABLE, {"depth": depth, "proposals": proposals} | row, {"rounds": rounds})
