"""A run as a process of the system."""
