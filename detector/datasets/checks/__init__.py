"""Checks of an annotated set of pictures: every fault is found and named, and fixed where that is safe."""
