"""Clocks, sampling in turn, and the statistics of samples."""
