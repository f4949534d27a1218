"""Targets, losses, optimisation, checkpoints and the training loop."""
