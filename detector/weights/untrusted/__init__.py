"""Files of unknown origin, read without running anything."""
