import pytest


@pytest.fixture(autouse=True)
def _registered(small_networks):
    """All runs here are of small networks."""
