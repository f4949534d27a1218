"""A run as an operating-system process: signals, and a watchdog."""
