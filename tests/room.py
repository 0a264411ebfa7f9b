"""Trains the same five steps on several arrangements of eight forced CPU devices.

`python -m tests.room NETWORK FILE PRECISION GROUPS ARRANGEMENT...`

GROUPS are numbers of examples that share statistics, joined by commas. An arrangement is a number
of devices, `8/4` where the state is spread over four of eight, `8*2` where no device has more than
two examples at once. Writes the last state of each to `FILE-<arrangement>.npz`, and losses and
shares to `FILE-<arrangement>.json`; in float32 the first loss alone.

The digits recipe with everything on: dropout, augmentation, moving average, RMSProp, clipping, L2;
with its own network, or with one of `benchmarks.small_networks`, whose step compiles in a tenth of
the time. What differs is rounding, amplified by the network: 3e-12 after five steps of the digits'
own, and 2e-9 where the recipe begins without its warm-up.
"""

import json
import re
import sys
from dataclasses import replace

import chex
import numpy as np


def main(
    network: str, file: str, precision: str, groups: list[int], arrangements: list[str]
) -> None:
    import jax

    chex.set_n_cpu_devices(8)
    jax.config.update("jax_enable_x64", precision == "float64")
    from inception_jax.distributed.mesh import make_placement

    assert jax.device_count() == 8
    for arrangement in arrangements:
        devices, shards, limit = (
            int(number or 0)
            for number in re.fullmatch(r"(\d+)(?:/(\d+))?(?:\*(\d+))?", arrangement).groups()
        )
        arrays, found = train(
            network,
            make_placement(jax.devices()[:devices], shards or 1),
            limit or None,
            precision,
            groups,
        )
        name = f"{file}-{arrangement.replace('/', 'by')}"
        np.savez(f"{name}.npz", **arrays)
        with open(f"{name}.json", "w") as out:
            json.dump(found, out)


def train(network, placement, limit, precision, groups):
    """Returns the arrays of the last state by group and path, and what else was found: losses by
    group, the share of a device.
    """
    import jax

    from benchmarks.small_networks import small
    from inception_jax.config import Norm
    from inception_jax.experiment import Run
    from inception_jax.recipes import load_recipe

    arrays, found, start = {}, {}, None
    for group in groups:
        config = (
            load_recipe("digits").config if network == "digits" else small(network, batch_size=64)
        )
        config = replace(
            config,
            norm=Norm(examples_per_group=group),
            model=replace(config.model, dtype=precision),
            steps=5,
            examples_per_device=limit,
        )
        run = Run(config, placement)
        if precision == "float32":
            compute = jax.jit(run.compute_gradients)
            (loss, _), _ = compute(run.initial_state(), next(run.train_batches(0)))
            found[group] = [float(loss)]
            continue
        # Groups share their statistics, not their weights: the state is made once.
        start = start or run.initial_state()
        state, batches = jax.tree.map(lambda x: x.copy(), start), run.train_batches(0)
        found[group] = []
        for _ in range(5):
            state, sums = run.train_step(state, next(batches))
            found[group].append(float(sums["loss"]))
        for name in ("params", "opt_state", "average"):
            sizes = [
                (leaf.addressable_shards[0].data.nbytes, leaf.nbytes)
                for leaf in jax.tree.leaves(getattr(state, name))
            ]
            found[f"{name} on a device"] = sum(here for here, _ in sizes) / sum(
                whole for _, whole in sizes
            )
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
            arrays[f"{group}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    return arrays, found


if __name__ == "__main__":
    import benchmarks.registered  # noqa: F401

    main(
        sys.argv[1],
        sys.argv[2],
        sys.argv[3],
        [int(group) for group in sys.argv[4].split(",")],
        sys.argv[5:],
    )
