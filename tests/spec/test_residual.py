"""Residual branches that are zero at initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.models import get_architecture
from inception_jax.nn.create import create
from inception_jax.spec.residual import zero_last_gammas
from inception_jax.spec.vocabulary import Conv, flatten


def test_zero_last_gamma_zeroes_the_last_gamma_of_each_unit_and_no_other():
    table = zero_last_gammas(get_architecture("resnet50"))
    units = [steps for name, steps in table.layers if "unit" in name]
    for unit in units:
        convolutions = [word for word in flatten(unit.branch) if isinstance(word, Conv)]
        assert [word.gamma_init for word in convolutions] == [1.0, 1.0, 0.0]
        assert unit.shortcut is None or unit.shortcut.gamma_init == 1.0
    assert len(units) == 16


@pytest.mark.slow
def test_a_residual_unit_with_zero_last_gamma_is_its_shortcut():
    network = create("cifar_resnet20", zero_init_residual=True)
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    names = ("conv1", "block1")
    variables = network.init(jax.random.key(0), x, end_points=names, stop=True)
    kept = network.apply(variables, x, end_points=names, stop=True).end_points
    np.testing.assert_array_equal(kept["conv1"], kept["block1"])  # three identities after a ReLU
    assert jnp.abs(kept["conv1"]).max() > 0


@pytest.mark.parametrize("name", ["inception_v3", "inception_resnet_v2", "preact_resnet50"])
def test_zero_last_gamma_refuses_networks_whose_branches_do_not_end_in_a_norm(name):
    with pytest.raises(ValueError, match=f"{name} .* no residual branch that ends in a norm"):
        zero_last_gammas(get_architecture(name))
