"""Readers of files: data sets, keypoints and recorded motion."""
