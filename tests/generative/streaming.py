"""Streams the fixture of features on several devices, and in several processes.

    python -m tests.generative.streaming FILE DEVICES...
    python -m tests.generative.streaming FILE PORT PROCESSES NUMBER

Writes, for each number of devices, sums and the FID to `FILE`, as JSON. Batches of 48 leave an odd
last one: 300 = 6 * 48 + 12 and 260 = 5 * 48 + 20.
"""

import json
import sys
from pathlib import Path

import chex
import numpy as np

BATCH = 48


def stream(placement, rows):
    """Returns the sums and blocks of features [N, d], streamed in batches with padding."""
    import jax

    from inception_jax.generative.statistics import (
        compile_update,
        gather_blocks,
        gather_sums,
        make_statistics,
    )

    statistics = make_statistics(rows.shape[1], placement, blocks=4)
    update, own = compile_update(placement), placement.local_rows(BATCH)
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH].astype(np.float32)
        missing = BATCH - len(part)
        weights = np.pad(np.ones(len(part), np.float32), (0, missing))
        part = np.pad(part, ((0, missing), (0, 0)), constant_values=np.nan)
        arrays = [
            jax.make_array_from_process_local_data(placement.batch_sharding, x[own], x.shape)
            for x in (part, weights)
        ]
        statistics = update(statistics, *arrays)
    return gather_sums(statistics), list(gather_blocks(statistics))


def score(placement):
    """Returns what a test compares."""
    from inception_jax.generative.frechet import frechet_distance
    from tests.generative.samples import load

    features = load("features_fixture")
    found = {}
    for name in ("real", "fake"):
        found[name], blocks = stream(placement, features[name])
        assert sum(block.count for block in blocks) == found[name].count
        together = sum(block.product for block in blocks)
        np.testing.assert_allclose(together, found[name].product, rtol=1e-5)
    distance = frechet_distance(found["real"].to_moments(), found["fake"].to_moments())
    return {
        "count": [one.count for one in found.values()],
        "mean": [one.mean.tolist() for one in found.values()],
        "product": [one.product.tolist() for one in found.values()],
        "fid": distance.value,
    }


def main(file, *numbers):
    import jax

    if len(numbers) == 3 and int(numbers[0]) > 1000:
        port, count, number = map(int, numbers)
        jax.config.update("jax_num_cpu_devices", 8 // count)
        jax.distributed.initialize(
            f"127.0.0.1:{port}", num_processes=count, process_id=number, initialization_timeout=60
        )
        from inception_jax.distributed.mesh import all_devices_placement

        found = {"processes": score(all_devices_placement())}
        if number == 0:
            Path(file).write_text(json.dumps(found))
        return
    chex.set_n_cpu_devices(8)
    from inception_jax.distributed.mesh import make_placement

    devices = jax.devices()
    found = {name: score(make_placement(devices[: int(name)])) for name in numbers}
    found["again"] = score(make_placement(devices[: int(numbers[-1])]))
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
