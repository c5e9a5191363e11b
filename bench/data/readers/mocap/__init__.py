"""Recorded motion in the files of motion capture: ASF/AMC and BVH."""
