"""Streamed sums: as good as float64, on any number of devices and processes, and small."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.runs import free_port
from inception_jax.data.source import DataError
from inception_jax.distributed.mesh import make_placement
from inception_jax.generative.frechet import frechet_distance, moments_from_rows
from inception_jax.generative.statistics import (
    FeatureSums,
    add_two_floats,
    compile_update,
    gather_blocks,
    gather_sums,
    make_statistics,
    merge,
)
from tests.conftest import ROOT
from tests.generative.samples import EXPECTED, load

REFERENCE = EXPECTED["fid"]["reference: float64, ddof 1, eigh"]


@pytest.fixture(scope="module")
def placement():
    return make_placement(jax.devices()[:1])


def stream(placement, rows, batch, blocks=0):
    statistics, update = (
        make_statistics(rows.shape[1], placement, blocks),
        compile_update(placement),
    )
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch].astype(np.float32)
        missing = batch - len(part)
        weights = np.pad(np.ones(len(part), np.float32), (0, missing))
        part = np.pad(part, ((0, missing), (0, 0)), constant_values=7)
        statistics = update(statistics, part, weights)
    return statistics


@pytest.mark.parametrize("batch", [64, 32, 7])
def test_streamed_features_give_the_distance_of_float64(placement, batch):
    features = load("features_fixture")
    real, fake = (
        gather_sums(stream(placement, features[name], batch)).to_moments()
        for name in ("real", "fake")
    )
    assert (real.count, fake.count) == (300, 260)
    assert frechet_distance(real, fake).value == pytest.approx(REFERENCE, rel=2e-7)


def test_two_float_sums_keep_what_float32_loses():
    """A compiler that reassociates would lose it too."""
    added = jnp.asarray(np.random.default_rng(0).random((400, 64)), jnp.float32) + 1000

    @jax.jit
    def add(rows):
        zero = jnp.zeros(64)
        (value, rest), _ = jax.lax.scan(
            lambda carry, row: (add_two_floats(*carry, row), None), (zero, zero), rows
        )
        plain, _ = jax.lax.scan(lambda carry, row: (carry + row, None), zero, rows)
        return value, rest, plain

    value, rest, plain = (np.asarray(x, np.float64) for x in add(added))
    exact = np.asarray(added, np.float64).sum(0)
    np.testing.assert_array_equal(value + rest, exact)
    assert np.abs(plain / exact - 1).max() > 1e-8


def test_parts_are_merged_as_if_they_were_one(placement):
    rows = load("features_fixture")["real"]
    parts = [gather_sums(stream(placement, rows[i::3], 16)) for i in range(3)]
    expected = moments_from_rows(rows)
    for found in (merge(parts), merge([merge(parts[1:]), parts[0]])):
        moments = found.to_moments()
        assert moments.count == 300
        np.testing.assert_allclose(moments.covariance, expected.covariance, rtol=2e-7, atol=2e-7)


def test_a_block_that_is_left_out_leaves_the_other_rows(placement):
    rows = load("features_fixture")["real"]
    statistics = stream(placement, rows, 20, blocks=5)
    total, blocks = gather_sums(statistics), list(gather_blocks(statistics))
    assert [block.count for block in blocks] == [60] * 5
    kept = np.arange(300) // 20 % 5 != 2
    found = total.subtract(blocks[2]).to_moments()
    expected = moments_from_rows(rows[kept])
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-5, atol=1e-5)


def test_padding_counts_nothing_even_if_it_is_nan(placement):
    rows = np.full((8, 3), np.nan, np.float32)
    rows[:2] = [[1, 2, 3], [4, 5, 7]]
    weights = (np.arange(8) < 2).astype(np.float32)
    statistics = compile_update(placement)(make_statistics(3, placement), rows, weights)
    found = gather_sums(statistics)
    assert found.count == 2
    np.testing.assert_array_equal(found.mean, [5, 7, 10])


def test_sums_of_one_image_or_of_nan_are_refused(placement):
    with pytest.raises(DataError, match="a set has 1 images: wanted are two or more"):
        FeatureSums(1, np.zeros(2), np.zeros((2, 2))).to_moments()
    with pytest.raises(DataError, match="features of some images are NaN or infinite"):
        FeatureSums(2, np.array([np.nan, 0]), np.zeros((2, 2))).to_moments()
    with pytest.raises(DataError, match="NaN or infinite"):
        FeatureSums(2, np.zeros(2), np.full((2, 2), np.inf)).to_moments()


@pytest.fixture(scope="module")
def on_devices(tmp_path_factory):
    """Returns the results of 1, 2 and 8 devices, and of 8 in two processes."""
    folder = tmp_path_factory.mktemp("streaming")
    line = [sys.executable, "-m", "tests.generative.streaming"]
    port = str(free_port())
    running = [
        subprocess.Popen([*line, folder / "devices.json", "1", "2", "8"], cwd=ROOT),
        *(
            subprocess.Popen([*line, folder / "processes.json", port, "2", str(i)], cwd=ROOT)
            for i in range(2)
        ),
    ]
    assert [process.wait(timeout=300) for process in running] == [0, 0, 0]
    return {
        name: found
        for file in ("devices.json", "processes.json")
        for name, found in json.loads((folder / file).read_text()).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("where", ["2", "8", "processes"])
def test_sums_are_the_same_on_1_2_and_8_devices_and_in_2_processes(on_devices, where):
    found, alone = on_devices[where], on_devices["1"]
    assert found["count"] == alone["count"] == [300, 260]
    for name in ("mean", "product"):
        for own, other in zip(found[name], alone[name], strict=True):
            scale = np.abs(other).max()
            np.testing.assert_allclose(np.array(own) / scale, np.array(other) / scale, atol=1e-6)
    assert found["fid"] == pytest.approx(alone["fid"], rel=2e-7)
    assert found["fid"] == pytest.approx(REFERENCE, rel=2e-7)


@pytest.mark.slow
def test_the_same_devices_give_the_same_bits(on_devices):
    assert on_devices["again"] == on_devices["8"]


MEMORY = """
import resource, jax, numpy as np, sys
from inception_jax.distributed.mesh import make_placement
from inception_jax.generative.frechet import frechet_distance, jackknife_distance
from inception_jax.generative.feature_set import ParkedBlocks
from inception_jax.generative import statistics as s
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
placement = make_placement(jax.devices()[:1])
mixing = None
def batches(seed, shift):
    rng = np.random.default_rng(seed)
    scale = np.geomspace(0.05, 3, 2048).astype(np.float32)
    for _ in range(200):
        x = rng.standard_normal((250, 2048), np.float32) * scale
        x[:, 1:] += 0.5 * x[:, :-1]
        yield np.abs(x) + np.float32(shift)
start = peak()
found = []
for seed, shift in ((1, 0.48), (2, 0.5)):
    state, update = s.make_statistics(2048, placement, 10), s.compile_update(placement)
    for x in batches(seed, shift):
        state = update(state, x, np.ones(250, np.float32))
    total = s.gather_sums(state)
    found.append((total.to_moments(), ParkedBlocks(total, s.gather_blocks(state))))
    del state
value = frechet_distance(found[0][0], found[1][0]).value
used = peak() - start
exact = []
for seed, shift in ((1, 0.48), (2, 0.5)):
    n, mean, product = 0, 0, 0
    for x in batches(seed, shift):
        x = x.astype(np.float64); n += len(x); mean = mean + x.sum(0); product = product + x.T @ x
    exact.append(s.FeatureSums(n, mean, product).to_moments())
print(value, frechet_distance(*exact).value, used, start)
"""


@pytest.mark.nightly
def test_fifty_thousand_images_take_600_megabytes_and_are_as_good_as_float64():
    """Without kept features, and with ten blocks of the jackknife for each set."""
    found = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=ROOT, text=True, capture_output=True, check=True
    )
    value, exact, used, _ = map(float, found.stdout.split())
    assert value == pytest.approx(exact, rel=2e-7)
    assert used < 600
