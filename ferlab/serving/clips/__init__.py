"""Clips and cameras: frame by frame, the same face followed, and a chart over time."""
