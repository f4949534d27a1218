"""Weights files: ours, and those of other frameworks converted at the border."""
