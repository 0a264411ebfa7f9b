"""Registers the small networks: `--import tests.registered`. In a process of the tests the fixture `small_networks` does, for one test."""

from inception_jax.models import register
from tests.networks import SMALL

for name, network in SMALL.items():
    register(name, paper=network)
