import pytest


@pytest.fixture(autouse=True)
def _registered(three):
    """All runs here are of the network of three modules."""
