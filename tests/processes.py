"""One of several processes: `python -m tests.processes PORT COUNT NUMBER STEPS FILE` writes which
examples its own rows of each step are, and the ids and augmentation keys of the global batches as
they lie on the devices of all.
"""

import sys

import jax
import numpy as np

BATCH, EXAMPLES, SEED = 8, 1281, 3


def main(port: str, count: int, number: int, steps: int, file: str) -> None:
    jax.config.update("jax_num_cpu_devices", 8 // count)
    jax.distributed.initialize(
        f"127.0.0.1:{port}", num_processes=count, process_id=number, initialization_timeout=60
    )
    from inception_jax.data.batches import Batch
    from inception_jax.data.order import make_shuffled_order
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.training.steps import make_example_keys

    room, order = all_devices_placement(), make_shuffled_order(EXAMPLES, SEED)
    rows = room.local_rows(BATCH)
    keys = room.compile(lambda positions: jax.random.key_data(make_example_keys(SEED, positions)))
    ids, given = [], []
    for step in range(steps):
        positions = step * np.int64(BATCH) + rows
        ids.append(order(positions))
        local = Batch(
            np.zeros((len(rows), 1, 1, 3), np.uint8),
            ids[-1].astype(np.int32),
            np.ones(len(rows), np.float32),
            positions,
        )
        batch = room.make_global_batch(local, BATCH)
        given.append(
            np.concatenate(
                [np.asarray(room.gather(batch.label))[:, None], np.asarray(keys(batch.position))], 1
            )
        )
    np.savez(file, rows=rows, ids=np.array(ids), given=np.array(given))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
