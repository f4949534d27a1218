"""The embedded set: rendered scenes of textured shapes with COCO annotations, the same pixels on every machine.

`difficulty` holds the numbers to tune, `outlines` the shapes, `paint` colours and backgrounds, `scene` one picture,
`on_disk` the folder.
"""

from detector.datasets.shapes.on_disk import ensure_shapes

__all__ = ["ensure_shapes"]
