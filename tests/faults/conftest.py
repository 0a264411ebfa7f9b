"""What tests of faults share: the network of three modules, for as long as one of them runs."""

import pytest

from inception_jax.models import REGISTRY, register
from tests.faults.network import three


@pytest.fixture(autouse=True)
def _registered():
    register("three", paper=three)
    yield
    REGISTRY.pop("three")
