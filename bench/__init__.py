"""Measurements, as ratios to the plain system in the same run."""
