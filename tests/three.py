"""Registers the network of three modules: `--import tests.three`. In a process of the tests the fixture `three` does, for one test."""

from inception_jax.models import register
from tests.networks import three

register("three", paper=three)
