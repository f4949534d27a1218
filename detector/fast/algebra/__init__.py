"""Constants of minimal filtering: no network, no kernels."""
