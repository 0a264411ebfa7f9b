"""Registers the small networks: `--import benchmarks.registered` in a process of its own, the
session's first fixture in the tests'.
"""

from benchmarks.small_networks import SMALL
from inception_jax.models import register

for name, network in SMALL.items():
    register(name, paper=network)
