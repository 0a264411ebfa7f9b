"""Metrics, progress, wall time and profiles of a run."""
