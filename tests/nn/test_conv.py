"""Kernels learn in float32 under bfloat16: the same gradient as autodiff's, for every stride and
padding, and not rounded on the way.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.nn import conv

CASES = [
    *itertools.product(
        [(1, 1), (3, 3), (1, 7)],
        [(1, 1), (2, 2)],
        ["SAME", "VALID", ((3, 2), (0, 1))],
        [(10, 13)],
        [1],
    ),
    *(
        ((7, 7), stride, padding, (9, 14), 4)
        for stride in [(2, 2), (3, 1)]
        for padding in ["SAME", ((3, 2), (0, 1))]
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "stride", "padding", "size", "groups"), CASES)
def test_convolution_gradients_match_autodiff_in_float64(
    x64, kernel, stride, padding, size, groups
):
    """float32 images and a float64 kernel take the road of bfloat16 and float32, where rounding
    does not hide a wrong index.
    """
    if isinstance(padding, str):
        padding = tuple(jax.lax.padtype_to_pads(size, kernel, stride, padding))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, *size, 4)).astype(np.float32)
    weights = rng.normal(size=(*kernel, 4 // groups, 8)).astype(np.float32).astype(np.float64)

    @jax.jit
    def both(x, weights):
        y, back = jax.vjp(
            lambda x, weights: conv.convolve(x, weights, stride, padding, groups), x, weights
        )
        wide, back_wide = jax.vjp(
            lambda x, weights: conv._convolve(x, weights, stride, padding, groups),
            x.astype(jnp.float64),
            weights,
        )
        cotangent = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return (y, *back(cotangent)), (wide, *back_wide(cotangent.astype(jnp.float64)))

    found, wanted = both(x, weights)
    assert [leaf.dtype for leaf in found] == [jnp.float32, jnp.float32, jnp.float64]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * float(np.abs(other).max()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["convolution", "product"])
def test_kernel_gradients_are_not_rounded_under_bfloat16(kind):
    """The sum of 8 x 16 x 16 products in float32 of bfloat16 images, against the same in float64:
    1e-6 where autodiff's has 2e-3.
    """
    x, cotangent = (
        jax.random.normal(jax.random.key(i), (8, 16, 16, 4), jnp.bfloat16) for i in (0, 1)
    )
    if kind == "convolution":
        weights, of = (
            jnp.ones((3, 3, 4, 4)),
            lambda kernel: conv.convolve(x, kernel, (1, 1), ((1, 1), (1, 1))),
        )
    else:
        weights, of = jnp.ones((4, 4)), lambda kernel: conv.multiply(x, kernel)
    (found,) = jax.vjp(of, weights)[1](cotangent)
    a, b = (
        np.pad(np.asarray(leaf, np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
        for leaf in (x, cotangent)
    )
    if kind == "convolution":
        wanted = np.stack(
            [
                np.stack(
                    [
                        np.einsum("bhwi,bhwo->io", a[:, i : i + 16, j : j + 16], b[:, 1:17, 1:17])
                        for j in range(3)
                    ]
                )
                for i in range(3)
            ]
        )
    else:
        wanted = np.einsum("bhwi,bhwo->io", a, b)
    assert found.dtype == jnp.float32
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
