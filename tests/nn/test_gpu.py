"""The operations of `nn.gpu` beside those of Flax and autodiff, in float64 on a CPU."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from benchmarks.random_variables import apart
from inception_jax.nn.gpu.norm import normalise_and_activate
from inception_jax.nn.norm import compute_moments, group_examples, normalise
from inception_jax.nn.pooling import pool
from inception_jax.spec.geometry import Window
from inception_jax.spec.rewritten import ShiftedPool, extend
from inception_jax.spec.vocabulary import Pool, Unit, avg, max_
from tests.conftest import ROOT
from tests.tiers import sweep

RNG = np.random.default_rng(0)
EPSILON = 1e-3


def weigh(y):
    """Returns a sum of `y` in which every value has another weight, none of them 0."""
    return (y * jnp.sin(1 + jnp.arange(y.size)).reshape(y.shape)).sum()


WINDOWS = [
    (3, 2, "valid", (9, 12)),
    (3, 1, "same", (9, 12)),
    (2, 2, "ceil", (9, 7)),
    (3, 2, "ceil", (8, 8)),
    (2, 3, "valid", (9, 12)),
    (3, 2, "same", (9, 12)),
    (3, 2, (1, 0), (7, 8)),
    ((1, 3), (2, 1), "same", (5, 6)),
]


@pytest.mark.slow
@pytest.mark.parametrize("unit", [Unit(), Unit(same="symmetric", count_include_pad=True)])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pools_by_shifts_and_their_gradients_match_xla(x64, kind, unit):
    """Ties, odd sizes and every kind of padding; of equal values the first gets the gradient."""
    for kernel, stride, padding, size in WINDOWS:
        word: Pool = {"max": max_, "avg": avg}[kind](kernel, stride, padding)
        x = jnp.asarray(RNG.integers(-2, 3, (2, *size, 3)).astype(np.float64))
        found, wanted = (
            jax.value_and_grad(lambda x, word=chosen: weigh(pool(x, word, unit)))(x)
            for chosen in (extend(ShiftedPool, word), word)
        )
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13, err_msg=str(word))


def test_a_maximum_by_shifts_of_a_window_with_a_nan_is_nan():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1].set(jnp.nan)
    word = extend(ShiftedPool, max_(2, 2))
    y, _ = jax.vjp(lambda x: pool(x, word, Unit()), x)
    np.testing.assert_array_equal(np.isnan(y[0, ..., 0]), [[True, False], [False, False]])


def compose(x, scale, bias, reference_mean, shortcut, mask, *, examples, is_relu, window):
    """Returns what `normalise_and_activate` does from the operations of `norm`, and Flax's pool."""
    mean, variance, count = compute_moments(x, reference_mean, mask, examples=examples, passes=2)
    values = group_examples(x, examples)
    y = normalise(values, mean, variance + EPSILON, scale, bias).reshape(x.shape)
    if window:
        y = pool(y, Pool("max", window.window_shape, window.strides, window.padding[0]), Unit())
    y = y if shortcut is None else y + shortcut
    return (jnp.maximum(y, 0) if is_relu else y), mean, variance, count


POOL = Window((3, 3), (2, 2), ((1, 1), (1, 1)))
CASES = {
    "whole batch": {},
    "linear": {"is_relu": False},
    "groups": {"examples": 2},
    "masked": {"masked": True},
    "masked groups": {"masked": True, "examples": 2},
    "pool": {"window": POOL},
    "pool in groups": {"window": POOL, "examples": 3},
    "shortcut": {"shortcut": True},
    "shortcut in masked groups": {"shortcut": True, "examples": 3, "masked": True},
    "shortcut, linear": {"shortcut": True, "is_relu": False},
    "positions": {"positions": True},
    "positions, masked": {"positions": True, "masked": True, "examples": 3},
}
COMBINED = [
    "whole batch", "linear", "masked groups", "pool in groups", "shortcut in masked groups",
    "shortcut, linear", "positions, masked",
]  # fmt: skip


def draw(positions=False, shortcut=False, masked=False, **options):
    """Returns arrays (x, scale, bias, reference_mean, shortcut), the mask, and the options."""
    shape = (6, 5, 7, 4)
    parameter = shape[1:] if positions else shape[-1:]
    scale = RNG.normal(1, 0.3, parameter) * np.where(np.arange(4) % 3, 1, -1)
    x = np.round(RNG.normal(0.5, 2, shape), 1)  # with ties in windows
    more = RNG.normal(size=shape) if shortcut else None
    mask = np.array([1, 1, 0, 1, 1, 0], bool) if masked else None
    options = {"examples": 0, "is_relu": True, "window": None} | options
    return (
        (x, scale, RNG.normal(0, 0.1, parameter), RNG.normal(size=parameter), more),
        mask,
        options,
    )


def fuse(x, scale, bias, reference_mean, shortcut, mask, *, examples, is_relu, window):
    y, moments = normalise_and_activate(
        x, scale, bias, reference_mean, mask, examples, EPSILON,
        is_relu=is_relu, window=window, shortcut=shortcut,
    )  # fmt: skip
    return y, *moments


@pytest.mark.parametrize("case", sweep(CASES, COMBINED))
def test_a_fused_norm_and_its_gradients_match_autodiff(x64, case):
    arrays, mask, options = draw(**CASES[case])

    def evaluate(function):
        def loss(*given):
            shortcut = given[4] if len(given) > 4 else None
            y, mean, variance, count = function(*given[:4], shortcut, mask, **options)
            total = weigh(y) + weigh(mean) + weigh(variance)
            return total, (y, mean, variance, jnp.asarray(count))

        given = [jnp.asarray(array) for array in arrays if array is not None]
        learned = tuple(i for i in range(len(given)) if i != 3)
        return jax.grad(loss, learned, has_aux=True)(*given)

    assert apart(evaluate(fuse), evaluate(compose)) < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize("case", ["masked groups", "pool in groups", "shortcut"])
def test_the_gradients_of_a_fused_norm_match_finite_differences(x64, case):
    (x, scale, bias, reference_mean, shortcut), mask, options = draw(**CASES[case])
    x += RNG.uniform(-1e-2, 1e-2, x.shape)  # no ties, where a maximum has no derivative
    given = [jnp.asarray(array) for array in (x, scale, bias, shortcut) if array is not None]

    def evaluate(x, scale, bias, shortcut=None):
        return fuse(x, scale, bias, reference_mean, shortcut, mask, **options)[:3]

    check_grads(evaluate, given, order=1, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-6)


KERNEL_GRADIENTS = """
import chex; chex.set_n_cpu_devices(8)
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.nn.conv import _convolve
from inception_jax.nn.gpu.conv import convolve_low_precision

rng = np.random.default_rng(0)
x = jnp.asarray(rng.normal(1, 1, (16, 9, 9, 8)), jnp.bfloat16)
kernel = jnp.asarray(rng.normal(size=(3, 3, 8, 16)), jnp.float32)
cotangent = jnp.asarray(rng.normal(1, 1, (16, 5, 5, 16)), jnp.bfloat16)
window = (2, 2), ((1, 1), (1, 1))

def gradient(x, cotangent, sharding):
    convolve = partial(convolve_low_precision, _convolve, sharding, x)
    return jax.vjp(lambda kernel: convolve(kernel, *window), kernel)[1](cotangent)[0]

placement = all_devices_placement({shards})
sharding = placement.batch_sharding
step = jax.jit(partial(gradient, sharding=sharding), in_shardings=(sharding, sharding))
found = step(x, cotangent)
assert found.dtype == jnp.float32
parts = [jax.jit(partial(gradient, sharding=None))(a, b)
         for a, b in zip(np.split(np.asarray(x), 8), np.split(np.asarray(cotangent), 8))]
wanted = np.sum(np.asarray(parts, np.float64), 0)
rounded = np.asarray(jnp.asarray(parts, jnp.bfloat16).sum(0), np.float64)
for one in (found, rounded):
    print(abs(one - wanted).max() / abs(wanted).max())
"""


FLOAT64_KERNEL_GRADIENTS = """
jax.config.update("jax_enable_x64", True)
x, cotangent, kernel = (jnp.asarray(rng.normal(size=one.shape)) for one in (x, cotangent, kernel))
step = jax.jit(partial(gradient, sharding=sharding), in_shardings=(sharding, sharding))
wide = step(x, cotangent)
alone = jax.jit(partial(gradient, sharding=None))(x, cotangent)
print(float(abs(wide - alone).max() / abs(alone).max()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 4])
def test_bfloat16_kernel_gradients_of_eight_devices_are_summed_in_float32(shards):
    """Each device's is rounded once; a sum in bfloat16 is a thousand times further off.

    In float64 nothing is rounded.
    """
    done = subprocess.run(
        [sys.executable, "-c", KERNEL_GRADIENTS.format(shards=shards) + FLOAT64_KERNEL_GRADIENTS],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    summed_in_float32, summed_in_bfloat16, in_float64 = map(float, done.stdout.split())
    assert summed_in_float32 < 1e-6 < 1e-3 < summed_in_bfloat16
    assert in_float64 < 1e-13
