"""What safety costs a run of the digits: `python benchmarks/safety.py [--rounds 8]`.

A checkpoint every 50 steps: stretches of 50 steps of `loop.training` that begin with a save, which is written and sealed while the
steps are made, in turn with stretches without.

The NaN guard: bytes and floating-point operations of the compiled step, by XLA's own account, with the guard and with a step in
which every number counts as finite, from which XLA takes it out again. A run stops at such a step unless it is told to skip it.

Writes `benchmarks/results/safety.json`.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from machine import publish

from inception_jax.checkpoint import Checkpoints
from inception_jax.experiment import Run
from inception_jax.interruption import Interruption
from inception_jax.logbook import Logbook
from inception_jax.loop import training
from inception_jax.mesh import everything
from inception_jax.recipes import recipe
from inception_jax.tally import Tally

EVERY = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    rounds = parser.parse_args().rounds
    config = replace(recipe("digits").config, steps=(2 * rounds + 1) * EVERY)
    bare, saving = [], []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, everything())
        log = Logbook(epath.Path(folder), start=0, steps=run.steps)
        steps = training(run, run.initial_state(), 0, Tally({}, stops=True), log, Interruption())
        checkpoints = Checkpoints(epath.Path(folder) / "checkpoints", keep=2)
        last = stretch(steps)  # compiles
        for _ in range(rounds):
            last = stretch(steps)
            bare.append(last.seconds)
            last = stretch(steps, checkpoints, last)
            saving.append(last.seconds)
        checkpoints.close()
        log.close()
    ratios = np.array(saving) / np.array(bare)
    publish(
        "safety",
        {
            "checkpoint_every_steps": EVERY,
            "rounds": rounds,
            "seconds_without": spread(bare),
            "seconds_with": spread(saving),
            "ratio": spread(ratios.tolist()),
            "nan_guard": guard(config),
        },
        ["orbax-checkpoint"],
    )


class Stretch(NamedTuple):
    """50 steps."""

    step: int
    state: Any
    seconds: float


def stretch(steps: Iterator[Any], checkpoints: Checkpoints | None = None, last: Stretch | None = None) -> Stretch:
    """Makes 50 steps; with `checkpoints` the state after the `last` stretch is saved meanwhile."""
    began = time.monotonic()
    if checkpoints and last:
        checkpoints.save(last.step, last.state)
    for _ in range(EVERY):
        step, state, _, _ = next(steps)
        if checkpoints:
            checkpoints.check()
    jax.block_until_ready(state)
    return Stretch(step, state, time.monotonic() - began)


def guard(config: Any) -> dict[str, dict[str, float]]:
    """Of a step with the guard to one without. To clip is to need the norm of the gradient anyhow."""
    found = {}
    for name, clip_norm, rule in (
        ("clipped", config.optimizer.clip_norm, "stop"),
        ("not_clipped", None, "stop"),
        ("clipped_and_skipping", config.optimizer.clip_norm, "skip_and_count"),
    ):
        given = replace(config, optimizer=replace(config.optimizer, clip_norm=clip_norm), on_not_finite=rule)
        with_guard = cost(given)
        with mock.patch.object(jnp, "isfinite", lambda x: jnp.ones(x.shape, bool)):
            without = cost(given)
        found[name] = {key: round(with_guard[key] / without[key], 5) for key in without}
    return found


def cost(config: Any) -> dict[str, float]:
    run = Run(config, everything())
    compiled = run.train_step.lower(run.abstract_state(), next(run.train_batches(0))).compile()
    account = compiled.cost_analysis()
    return {"flops": account["flops"], "bytes": account["bytes accessed"]}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(float(np.median(values)), 4), "least": round(min(values), 4), "most": round(max(values), 4)}


if __name__ == "__main__":
    main()
