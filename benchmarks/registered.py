"""Registers the small networks, with `--import benchmarks.registered` or in the tests' session."""

from benchmarks.small_networks import SMALL
from inception_jax.models import register

for name, network in SMALL.items():
    register(name, paper=network)
