"""Faster R-CNN with a ResNet-C4 backbone."""

__version__ = "0.1.0"
