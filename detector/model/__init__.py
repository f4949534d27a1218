"""The network: images in, detections out. Knows nothing of ground truth."""
