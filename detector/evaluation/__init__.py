"""COCO mAP of detections and the running of a model over a dataset."""
