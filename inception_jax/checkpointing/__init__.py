"""Checkpoints, the workdir of a run, and the record of its attempts."""
