"""The commands as functions: `detector.train`, `detector.evaluate` and `detector.check_data`."""
