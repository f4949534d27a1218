"""Runs a file of `faster-rcnn export` with onnxruntime, numpy and OpenCV alone:

python onnx_client.py model.onnx photo.jpg [score threshold] [annotated.jpg]"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def detect(session, picture, score_threshold):
    """Detect in an [H, W, 3] uint8 BGR picture: boxes [D, 4] x1 y1 x2 y2 in its pixels, scores [D], D names."""
    facts = json.loads(session.get_modelmeta().custom_metadata_map["detector"])
    height, width = picture.shape[:2]
    scale = min(facts["input"]["min_size"] / min(height, width), facts["input"]["max_size"] / max(height, width))
    scale = scale if facts["input"]["min_size"] else 1.0  # 0: the picture's own size
    size = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
    shrinks = scale < 1 and facts["input"]["resize"] == "pil"  # Pillow's, to which INTER_AREA comes near
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    image = np.ascontiguousarray(resized[..., ::-1].transpose(2, 0, 1)[None], np.float32)  # RGB, channels first
    inputs = {"image": image, "score_threshold": np.array(score_threshold, np.float32)}
    boxes, scores, labels = session.run(["boxes", "scores", "labels"], inputs)
    boxes = boxes * np.array([width / size[0], height / size[1]] * 2, np.float32)
    return boxes, scores, [facts["names"][label - 1] for label in labels]


if __name__ == "__main__":
    model, photo, threshold, output = (sys.argv[1:] + ["0.5", "annotated.jpg"][len(sys.argv) - 3 :])[:4]
    picture = cv2.imread(photo)
    if picture is None:
        sys.exit(f"error: {photo}: cannot be read as a picture.")
    onnxruntime.set_default_logger_severity(3)  # errors alone
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for box, score, name in zip(*detect(session, picture, float(threshold)), strict=True):
        x1, y1, x2, y2 = (round(float(value)) for value in box)
        print(f"{name} {score:.3f}  {x1} {y1} {x2} {y2}")
        cv2.rectangle(picture, (x1, y1), (x2, y2), (0, 200, 0), 2)
    cv2.imwrite(output, picture)
