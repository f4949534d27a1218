"""Pictures: found, read, resized and augmented."""
