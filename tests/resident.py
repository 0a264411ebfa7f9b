"""What the input pipeline holds: `python -m tests.resident FOLDER` prints its resident bytes after
200 and after 2,000 batches.
"""

import sys
from itertools import islice
from pathlib import Path

from inception_jax.config import Data, Experiment
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run


def resident() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(
        next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
    )


if __name__ == "__main__":
    data = Data("records", directory=sys.argv[1], image_size=299, crop="area")
    batches = Run(
        Experiment(data=data, batch_size=8, steps=10**6), all_devices_placement()
    ).train_batches(0)
    for more in (200, 1800):
        for _ in islice(batches, more):
            pass
        print(resident(), flush=True)
