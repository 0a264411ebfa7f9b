"""Registers the small networks: `--import tests.registered` in a process of its own, the session's first fixture in the tests'."""

from inception_jax.models import register
from tests.networks import SMALL

for name, network in SMALL.items():
    register(name, paper=network)
