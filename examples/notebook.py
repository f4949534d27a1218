"""Point at a folder of annotated pictures, get a model: six lines for a notebook, a script or a thread of your own."""

import detector

run = detector.train(data="my_export", epochs=12, output="output/mine")
print(run.best, run.metrics["AP50"])
model = detector.load(run.best)
detections = model.predict("photo.jpg", score_threshold=0.5)
detections.save("photo_detections.png")
