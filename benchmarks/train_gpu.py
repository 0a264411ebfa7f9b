"""The digits network to 0.98 from arrays in memory, then one full-size step.

    python benchmarks/train_gpu.py [--seed 0]

Needs jax, flax, optax, chex and numpy alone. Same recipe, order, batches and steps as `python
train.py`; only the reading differs: the images are enlarged once, by `jax.image`, and held as an
array.
"""

import time
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import make_parser, publish
from inception_jax.data.augment import scale_pixels
from inception_jax.data.batches import Batch
from inception_jax.data.digits import CLASS_NAMES, load_digits
from inception_jax.data.registry import register_dataset
from inception_jax.data.source import ArraySource
from inception_jax.distributed.mesh import Placement, all_devices_placement
from inception_jax.evaluation.scoring import score_batches
from inception_jax.experiment import Run
from inception_jax.nn.create import create
from inception_jax.recipes import load_recipe
from inception_jax.training.objective import classification_loss
from inception_jax.training.optimizer import make_optimizer
from inception_jax.training.state import make_initial_state
from inception_jax.training.steps import compute_gradients, train_step


class FromArrays(Run):
    """A run whose images need no decoding."""

    def _see(self, example, into, part):
        into[:] = example.image


def enlarged(split: str, directory: str | None) -> ArraySource:
    data = load_recipe("digits").config.data
    images, labels = load_digits(split)
    inner = data.image_size - 2 * data.margin
    large = jax.image.resize(images.astype(np.float32), (len(images), inner, inner), "linear")
    framed = np.pad(
        np.asarray(jnp.rint(large), np.uint8),
        ((0, 0), (data.margin, data.margin), (data.margin, data.margin)),
    )
    pixels = np.repeat(framed[..., None], 3, axis=-1)
    return ArraySource(pixels, labels, CLASS_NAMES)


def train_digits(room: Placement, seed: int, epochs: float | None) -> dict:
    register_dataset("digits_from_arrays", enlarged)
    config = load_recipe("digits").config
    config = replace(
        config,
        data=replace(config.data, name="digits_from_arrays", threads=0),
        seed=seed,
        epochs=epochs or config.epochs,
    )
    run = FromArrays(config, room)
    state, batches = run.initial_state(), run.train_batches(0)
    began = time.perf_counter()
    state, _ = jax.block_until_ready(run.train_step(state, next(batches)))
    first = time.perf_counter() - began
    began = time.perf_counter()
    for batch in batches:
        state, _ = run.train_step(state, batch)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - began
    scored = score_batches(
        run.eval_step, state.variables, run.test_batches(), examples=len(run.test_source)
    )
    return {
        "seed": seed,
        "epochs": config.epochs,
        "held_out_top1": round(scored["top1"], 4),
        "count": int(scored["count"]),
        "first_step_seconds": round(first, 1),
        "seconds_after_it": round(seconds, 2),
        "images_per_second": round((run.steps - 1) * config.batch_size / seconds),
    }


def full_size_step(room: Placement, batch_size: int, dtype: str) -> dict:
    """Runs one step of BN-Inception at 224 px with RMSProp, then ten more, timed."""
    network = create("bn_inception", dtype=jnp.dtype(dtype), examples_per_group=min(32, batch_size))
    rule = make_optimizer("rmsprop", 0.045, clip_norm=2.0)
    start = partial(
        make_initial_state,
        network=network,
        optimizer=rule,
        image_shape=(224, 224, 3),
        is_averaged=False,
    )
    state = room.initialize_sharded(start, jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = room.make_global_batch(
        Batch(
            rng.integers(0, 256, (batch_size, 224, 224, 3), np.uint8),
            rng.integers(0, 1000, batch_size).astype(np.int32),
            np.ones(batch_size, np.float32),
            np.arange(batch_size, dtype=np.int64),
        ),
        batch_size,
    )

    def prepare(batch, keys):
        return scale_pixels(batch.image), batch.label

    learning = partial(
        compute_gradients,
        network=network,
        objective=classification_loss,
        prepare=prepare,
        seed=0,
        l2=4e-5,
    )
    step = room.compile(
        partial(train_step, optimizer=rule, compute_gradients=learning), state=state
    )
    began = time.perf_counter()
    state, sums = jax.block_until_ready(step(state, batch))
    first = time.perf_counter() - began
    losses, times = [float(sums["loss"] / sums["count"])], []
    for _ in range(10):
        began = time.perf_counter()
        state, sums = jax.block_until_ready(step(state, batch))
        times.append(time.perf_counter() - began)
        losses.append(float(sums["loss"] / sums["count"]))
    return {
        "model": "bn_inception",
        "dtype": dtype,
        "batch_size": batch_size,
        "first_step_seconds": round(first, 1),
        "step_seconds_median": round(float(np.median(times)), 5),
        "images_per_second": round(batch_size / float(np.median(times))),
        "loss_before": round(losses[0], 3),
        "loss_after_ten": round(losses[-1], 3),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, help="instead of the recipe's")
    parser.add_argument("--batch-size", type=int, default=256, help="of the full-size step")
    parser.add_argument("--dtype", default="bfloat16", help="of the full-size step")
    options = parser.parse_args()
    room = all_devices_placement()
    figures = {
        "digits": train_digits(room, options.seed, options.epochs),
        "full_size": full_size_step(room, options.batch_size, options.dtype),
    }
    publish(options.results / f"train_{room.platform}.json", figures)


if __name__ == "__main__":
    main()
