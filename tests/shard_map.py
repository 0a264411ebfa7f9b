"""`python -m tests.shard_map`: the same pure step under `jit` over a mesh and under
`jax.shard_map`, on eight devices.

Prints the largest difference of the parameters after three steps, in float64. Under shard_map each
device takes its share of the batch and the gradient is averaged by hand; normalisation is over a
device's share in both.
"""

from functools import partial

import chex


def main() -> None:
    import jax

    chex.set_n_cpu_devices(8)
    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np
    import optax
    from jax.sharding import PartitionSpec

    from inception_jax.data.augment import scale_pixels
    from inception_jax.data.batches import Batch
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.nn.network import Network
    from inception_jax.nn.norm import BatchNorm
    from inception_jax.spec.vocabulary import concat, same
    from inception_jax.training.objective import classification_loss
    from inception_jax.training.state import make_initial_state
    from inception_jax.training.steps import compute_gradients, train_step
    from tests.spec.probes import probe

    table = probe("tiny", Stem=same(8, 3), Mixed=concat(same(8, 1), (same(8, 1), same(8, 3))))
    network = Network(
        table, num_classes=10, dtype=jnp.float64, norm=partial(BatchNorm, examples_per_group=4)
    )
    room = all_devices_placement()
    rng = np.random.default_rng(0)
    batch = room.make_global_batch(
        Batch(
            rng.integers(0, 256, (32, 8, 8, 3), np.uint8),
            rng.integers(0, 10, 32).astype(np.int32),
            np.ones(32, np.float32),
            np.arange(32, dtype=np.int64),
        ),
        32,
    )

    rule = optax.sgd(0.1, momentum=0.9)

    def prepare(batch, keys):
        return scale_pixels(batch.image), batch.label

    alone = partial(
        compute_gradients, network=network, objective=classification_loss, prepare=prepare, seed=0
    )

    def together(state, batch):
        """The mean over the devices, so that all of them find the same step not finite."""
        (value, (sums, batch_stats)), grads = alone(state, batch)
        value, batch_stats, grads = jax.lax.pmean((value, batch_stats, grads), "data")
        return (value, (sums, batch_stats)), grads

    first = partial(
        make_initial_state,
        network=network,
        optimizer=rule,
        image_shape=(8, 8, 3),
        is_averaged=False,
    )
    start = room.initialize_sharded(first, jax.random.key(0))
    by_jit, by_map = start, start
    jitted = room.compile(partial(train_step, optimizer=rule, compute_gradients=alone))
    data, whole = PartitionSpec("data"), PartitionSpec()

    own_share = partial(train_step, optimizer=rule, compute_gradients=together)
    mapped = jax.jit(
        jax.shard_map(
            own_share,
            mesh=room.mesh,
            in_specs=(whole, data),
            out_specs=(whole, whole),
            check_vma=False,
        )
    )
    for _ in range(3):
        by_jit, _ = jitted(by_jit, batch)
        by_map, _ = mapped(by_map, batch)
    pairs = zip(jax.tree.leaves(by_jit), jax.tree.leaves(by_map), strict=True)
    print(max(float(jnp.abs(a - b).max()) for a, b in pairs))


if __name__ == "__main__":
    main()
