"""A trained detector as a file that other programs run: ONNX, PyTorch's own `.pt2`, OpenVINO."""
