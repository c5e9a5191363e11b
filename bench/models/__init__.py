"""Models that are measured, and what of PyTorch and the library may be missing."""
