"""The state on disk from which a run can go on."""
