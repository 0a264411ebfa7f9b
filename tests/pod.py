"""One of the processes of a small pod: `python -m tests.pod FOLDER NAME [BEGUN...]`, joined to the
others by its environment.

Makes the 20 steps of a run, all in float64, in `FOLDER/NAME`, and then the last ten of runs that
other pods began, from copies of theirs that end at step 10. The first process writes the losses and
scores of each to `NAME.json`, the last state to `NAME.npz`.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from etils import epath

from benchmarks.small_networks import small
from inception_jax.checkpointing.packing import flatten_with_names
from inception_jax.config import Norm
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.distributed.processes import join_processes
from inception_jax.experiment import Run
from inception_jax.preemption import PreemptionHandler
from inception_jax.trainer.loop import fit

STEPS, HALF = 20, 10


def main(folder: Path, name: str, begun: list[str]) -> None:
    jax.config.update("jax_enable_x64", True)
    config = small(
        steps=STEPS,
        norm=Norm(examples_per_group=4),
        keep_checkpoints=9,
        checkpoint_every_epochs=HALF / (1347 / 32),
    )
    config = replace(config, model=replace(config.model, dtype="float64"))
    with join_processes():
        run = Run(config, all_devices_placement())
        losses: list[float] = []
        compiled = run.train_step

        def noted(state, batch):
            state, sums = compiled(state, batch)
            losses.append(float(sums["loss"]) / float(sums["count"]))
            return state, sums

        vars(run)["train_step"] = noted
        found = {}
        for workdir in (name, *(f"{one}-under-{name}" for one in begun)):
            losses.clear()
            with PreemptionHandler() as preemption:
                state, scores = fit(run, epath.Path(folder / workdir), preemption=preemption)
            found[workdir] = {
                "losses": list(losses),
                "scores": scores,
                "processes": jax.process_count(),
                "devices": jax.device_count(),
            }
            if jax.process_index() == 0:
                np.savez(
                    folder / f"{workdir}.npz",
                    **{key: np.asarray(leaf) for key, leaf in flatten_with_names(state)},
                )
        if jax.process_index() == 0:
            (folder / f"{name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    import benchmarks.registered  # noqa: F401

    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
