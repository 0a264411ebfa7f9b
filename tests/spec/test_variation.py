import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.models import get_architecture
from inception_jax.nn.create import create
from inception_jax.spec.measure import measure
from inception_jax.spec.variation import remove_local_response, scale_initial_kernels
from inception_jax.spec.vocabulary import Conv, Init, LocalResponse, flatten


def words(table):
    return [word for _, steps in table.layers for word in flatten(steps)]


def test_bn_baseline_without_local_response_is_bn_x5():
    """The dropout rates differ, which is another of the seven changes."""
    changed, wanted = (
        measure(remove_local_response(get_architecture("bn_baseline"))),
        measure(get_architecture("bn_x5")),
    )
    assert any(isinstance(word, LocalResponse) for word in words(get_architecture("bn_baseline")))
    assert not any(isinstance(word, LocalResponse) for word in words(changed.architecture))
    assert words(changed.architecture) == words(wanted.architecture)
    assert changed.multiply_adds == wanted.multiply_adds


@pytest.mark.parametrize("name", ["bn_x5", "inception_v3"])
def test_kernel_scaling_enlarges_the_initialisation_of_convolutions_alone(name):
    plain, scaled = get_architecture(name), scale_initial_kernels(get_architecture(name), 2.0)

    def deviation(init):
        return init.scale**0.5 if init.fan else init.scale

    for before, after in zip(words(plain), words(scaled), strict=True):
        if isinstance(before, Conv) and before.init:
            assert deviation(after.init) == pytest.approx(2 * deviation(before.init))
    assert deviation(scaled.unit.init) == pytest.approx(2 * deviation(plain.unit.init))
    assert scaled.unit.linear_init == (plain.unit.linear_init or plain.unit.init)
    assert isinstance(scaled.unit.linear_init, Init)


@pytest.mark.slow
def test_per_activation_norms_are_placed_in_the_requested_rows_alone():
    network = create("bn_inception_small", per_activation_in=("Mixed_5c",))
    shapes = jax.eval_shape(
        network.init, jax.random.key(0), jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    )
    ranks = {
        path[0].key: set() for path, _ in jax.tree_util.tree_leaves_with_path(shapes["batch_stats"])
    }
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes["batch_stats"]):
        ranks[path[0].key].add(leaf.ndim)
    assert ranks.pop("Mixed_5c") == {3}
    assert set(np.concatenate([list(item) for item in ranks.values()])) == {1}
    with pytest.raises(
        ValueError, match="per_activation_in names Mixed_9z, which bn_inception_small has not"
    ):
        create("bn_inception_small", per_activation_in=("Mixed_9z",))
