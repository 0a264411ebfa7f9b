"""Poisons the run of this process: `--import tests.faults.poisoned`."""

from tests.faults.poison import Run, poisoned

Run.prepare_training = poisoned
