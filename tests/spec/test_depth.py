"""The depths of the networks, which the names of the ResNets contain."""

import pytest

from inception_jax.models import REGISTRY, get_architecture
from inception_jax.spec.depth import count_depth

NAMED = [
    name for name in REGISTRY if "resnet" in name and name[-1].isdigit() and "inception" not in name
] + ["plain18", "plain34"]


@pytest.mark.parametrize("name", NAMED)
def test_the_number_in_a_resnets_name_is_its_depth(name):
    if name.startswith("wide"):
        name = name.removesuffix("_2")
        assert count_depth(get_architecture(f"{name}_2")) == int("".join(filter(str.isdigit, name)))
    else:
        assert count_depth(get_architecture(name)) == int("".join(filter(str.isdigit, name)))


def test_googlenet_has_22_layers_and_inception_v3_has_48():
    assert [count_depth(get_architecture(name)) for name in ("googlenet", "inception_v3")] == [
        22,
        48,
    ]
    assert count_depth(get_architecture("googlenet"), pools=True) == 27
