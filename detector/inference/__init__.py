"""Pictures in, detections out: what a user of a trained model meets."""
