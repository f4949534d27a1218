"""Everything that can be wrong with an annotated set of pictures: found (all of it), named, and mended where safe."""
