import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from inception_jax.config import ConfigError
from inception_jax.data.batches import Batch
from inception_jax.distributed.mesh import all_devices_placement
from tests.conftest import ROOT
from tests.tiers import sweep

BATCH = Batch(
    np.zeros((4, 8, 8, 3), np.uint8),
    np.zeros(4, np.int32),
    np.ones(4, np.float32),
    2**33 + 2**31 + np.arange(4),
)


def test_a_global_batch_has_the_batch_sharding_and_32_bit_positions():
    placement = all_devices_placement()
    laid = placement.make_global_batch(BATCH, 4)
    assert laid.image.sharding.is_equivalent_to(placement.batch_sharding, 4)
    assert laid.position.dtype == np.uint32
    np.testing.assert_array_equal(laid.position, 2**31 + np.arange(4))  # 32 bits of them are kept


@pytest.mark.parametrize(
    "broken",
    [
        BATCH._replace(image=BATCH.image.astype(np.float32)),
        BATCH._replace(label=BATCH.label[:, None]),
        BATCH._replace(weight=BATCH.weight[:3]),
    ],
)
def test_a_global_batch_of_wrong_shapes_or_types_is_refused(broken):
    with pytest.raises(AssertionError):
        all_devices_placement().make_global_batch(broken, 4)


def test_the_error_for_a_batch_that_devices_do_not_divide_names_sizes_that_fit():
    code = (
        "import chex; chex.set_n_cpu_devices(8)\n"
        "from inception_jax.distributed.mesh import all_devices_placement\n"
        "placement = all_devices_placement(); print(placement.local_rows(16).tolist(), "
        "placement.collect_device_facts()['devices'])\n"
        "try: placement.local_rows(60)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out.splitlines() == [
        f"{list(range(16))} 8",
        "ConfigError batch_size 60 cannot be split over 8 devices: take 56 or 64",
    ]
    assert issubclass(ConfigError, ValueError)


@pytest.mark.parametrize(
    ("batch", "limit", "group", "parts"),
    [
        (64, None, 16, 1),
        (64, 64, 0, 1),
        (64, 16, 16, 4),
        (64, 20, 16, 4),
        (96, 50, 16, 2),
        (60, 7, 1, 10),
    ],
)
def test_a_batch_is_split_into_as_few_microbatches_as_devices_and_groups_allow(
    batch, limit, group, parts
):
    assert all_devices_placement().count_microbatches(batch, limit, group) == parts


@pytest.mark.parametrize(
    ("limit", "group", "told"),
    [(32, 0, "set norm.examples_per_group"), (8, 16, "whole groups of 16")],
)
def test_a_batch_that_cannot_be_split_into_microbatches_is_refused_with_the_reason(
    limit, group, told
):
    with pytest.raises(ConfigError, match=told):
        all_devices_placement().count_microbatches(64, limit, group)


@pytest.mark.parametrize(
    ("shards", "require", "told"),
    [(3, None, "do not divide 1"), (1, "tpu:32", "there are cpu:1"), (1, "cpu:2", "cpu:2")],
)
def test_a_placement_on_unsuitable_devices_is_refused(shards, require, told):
    with pytest.raises(ConfigError, match=told):
        all_devices_placement(shards, require)


def test_a_placement_on_the_required_devices_is_accepted():
    assert all_devices_placement(1, "cpu").devices == all_devices_placement(1, "cpu:1").devices == 1


@pytest.mark.slow
def test_the_pure_training_step_under_shard_map_gives_the_same_parameters():
    out = subprocess.run(
        [sys.executable, "-m", "tests.shard_map"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert out.returncode == 0, out.stderr
    assert float(out.stdout) < 1e-12


def test_a_program_compiled_for_one_use_gives_the_result_of_jit():
    placement = all_devices_placement()

    def draw(key):
        return jax.random.truncated_normal(key, -2, 2, (1000,))

    np.testing.assert_allclose(
        placement.initialize_sharded(draw, jax.random.key(0)),
        jax.jit(draw)(jax.random.key(0)),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("steps", "counts"), sweep([(50, (1, 2)), (1000, (1, 2, 4))], [(50, (1, 2))])
)
def test_any_number_of_processes_feeds_the_same_batches_under_the_same_keys(
    steps, counts, tmp_path
):
    """In real processes, eight devices in all."""
    from inception_jax.data.order import make_shuffled_order
    from tests.processes import BATCH, EXAMPLES, SEED

    wanted = make_shuffled_order(EXAMPLES, SEED)(np.arange(steps * BATCH)).reshape(steps, BATCH)
    keys = []
    for count in counts:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        files = [tmp_path / f"{number}-of-{count}.npz" for number in range(count)]
        started = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.processes",
                    *map(str, (port, count, number, steps, file)),
                ],
                cwd=ROOT,
            )
            for number, file in enumerate(files)
        ]
        assert [process.wait(timeout=300) for process in started] == [0] * count
        found = [np.load(file) for file in files]
        np.testing.assert_array_equal(
            np.concatenate([one["rows"] for one in found]), np.arange(BATCH)
        )
        np.testing.assert_array_equal(np.concatenate([one["ids"] for one in found], 1), wanted)
        for one in found:
            np.testing.assert_array_equal(one["given"][:, :, 0], wanted)
            keys.append(one["given"][:, :, 1:])
    assert all((other == keys[0]).all() for other in keys)
    assert len(np.unique(keys[0].reshape(-1, keys[0].shape[-1]), axis=0)) == steps * BATCH
