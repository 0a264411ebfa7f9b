"""Registers the network of three modules: `--import tests.faults.three`."""

from inception_jax.models import register
from tests.faults.network import three

register("three", paper=three)
