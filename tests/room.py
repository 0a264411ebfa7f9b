"""A room of N forced CPU devices, in a process of its own: `python -m tests.room NETWORK N FILE PRECISION GROUP...` writes what five
steps give, and in float32 the first loss. N is `8/4` where the state is spread over four of eight, and `8*2` where no device has more than
two examples at once.

The digits recipe with everything on: dropout, augmentation, moving average, RMSProp, clipping, L2; with its own network, or with the
one of three modules, whose step compiles in a fifth of the time. What differs is rounding, amplified by the network: 3e-12 after five
steps of the digits' own, and 2e-9 where the recipe begins without its warm-up.
"""

import json
import re
import sys
from dataclasses import replace

import chex
import numpy as np


def main(network: str, arrangement: str, file: str, precision: str, groups: list[int]) -> None:
    import jax

    devices, shards, limit = (int(number or 0) for number in re.fullmatch(r"(\d+)(?:/(\d+))?(?:\*(\d+))?", arrangement).groups())
    chex.set_n_cpu_devices(devices)
    jax.config.update("jax_enable_x64", precision == "float64")
    from inception_jax.config import Norm
    from inception_jax.experiment import Run
    from inception_jax.mesh import everything
    from inception_jax.recipes import recipe
    from tests.networks import small

    assert jax.device_count() == devices
    arrays, losses, start = {}, {}, None
    for group in groups:
        config = recipe("digits").config if network == "digits" else replace(small(), batch_size=64)
        config = replace(
            config,
            norm=Norm(examples_per_group=group),
            model=replace(config.model, dtype=precision),
            steps=5,
            examples_per_device=limit or None,
        )
        run = Run(config, everything(shards or 1))
        if precision == "float32":
            losses[group] = [float(jax.jit(lambda *given: run.gradient(*given)[0][0])(run.initial_state(), next(run.train_batches(0))))]  # noqa: B023
            continue
        start = start or run.initial_state()  # groups share their statistics, not their weights: it is made once
        state, batches = jax.tree.map(lambda x: x.copy(), start), run.train_batches(0)
        losses[group] = []
        for _ in range(5):
            state, sums = run.train_step(state, next(batches))
            losses[group].append(float(sums["loss"]))
        if shards:
            spread = {"params": state.params, "opt_state": state.opt_state, "average": state.average}
            for name, tree in spread.items():
                sizes = [(leaf.addressable_shards[0].data.nbytes, leaf.nbytes) for leaf in jax.tree.leaves(tree)]
                losses[f"{name} on a device"] = sum(here for here, _ in sizes) / sum(whole for _, whole in sizes)
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
            arrays[f"{group}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    np.savez(file, **arrays)
    with open(f"{file}.json", "w") as out:
        json.dump(losses, out)


if __name__ == "__main__":
    if sys.argv[1] == "three":
        import tests.registered  # noqa: F401
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], [int(group) for group in sys.argv[5:]])
