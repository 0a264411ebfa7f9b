"""Trains a small diffusion model on Fashion-MNIST, and scores its images while it trains.

    python examples/ddpm.py FOLDER [--weights fid/2015-12-05] [--steps 2000] [--output runs/ddpm]

FOLDER holds the four IDX files. Without `--weights` the features are those of a small classifier
that is trained on the same images first: a Frechet distance, and no FID. The model is that of Ho et
al. 2020, arXiv:2006.11239, with the cosine schedule of Nichol and Dhariwal 2021 (arXiv:2102.09672)
and the sampler of Song et al. 2020 (arXiv:2010.02502).
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot

from inception_jax.cli import main as run_command
from inception_jax.data.idx import open_idx
from inception_jax.generative.evaluator import Evaluator, format_score

BATCH, SAMPLES, EVERY, SAMPLER_STEPS, DECAY, WIDTH = 128, 1024, 200, 20, 0.995, 32
CLASSIFIER_STEPS = "5000"


class Denoiser(nn.Module):
    """Predicts the noise in images [B, 28, 28, 1] at the times t [B] of 0..1: a small U-Net."""

    @nn.compact
    def __call__(self, x, t):
        angles = t[:, None] * 2.0 ** jnp.arange(8) * jnp.pi
        times = nn.silu(nn.Dense(128)(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)))

        def block(x, channels):
            h = nn.Conv(channels, (3, 3))(nn.silu(nn.GroupNorm(8)(x)))
            h = h + nn.Dense(channels)(times)[:, None, None]
            h = nn.Conv(channels, (3, 3))(nn.silu(nn.GroupNorm(8)(h)))
            return h + (x if x.shape[-1] == channels else nn.Dense(channels)(x))

        first = block(nn.Conv(WIDTH, (2, 2), strides=2)(x), WIDTH)  # [B, 14, 14, 32]
        h = block(nn.Conv(2 * WIDTH, (2, 2), strides=2)(first), 2 * WIDTH)  # [B, 7, 7, 64]
        h = nn.ConvTranspose(WIDTH, (2, 2), strides=(2, 2))(block(h, 2 * WIDTH))
        h = nn.silu(nn.GroupNorm(8)(block(jnp.concatenate([h, first], -1), WIDTH)))
        return nn.ConvTranspose(1, (2, 2), strides=(2, 2), kernel_init=nn.initializers.zeros)(h)


def signal(t):
    """Returns the shares of image and noise at the times t, of 0..1."""
    angle = (t * 0.995 + 0.004) * jnp.pi / 2
    return jnp.cos(angle), jnp.sin(angle)


def compute_loss(params, model, images, key):
    """Returns the mean squared error of the predicted noise."""
    keys = jax.random.split(key)
    t = jax.random.uniform(keys[0], (len(images),))
    noise = jax.random.normal(keys[1], images.shape)
    image_share, noise_share = (x[:, None, None, None] for x in signal(t))
    predicted = model.apply(params, image_share * images + noise_share * noise, t)
    return jnp.mean(jnp.square(predicted - noise))


@partial(jax.jit, static_argnames=("model", "optimizer"), donate_argnums=(0, 1, 2))
def train_step(params, average, opt_state, images, key, *, model, optimizer):
    """Returns the updated parameters, their moving average, the optimizer's state, and the loss."""
    images = images[..., None].astype(jnp.float32) / 127.5 - 1
    loss, grads = jax.value_and_grad(compute_loss)(params, model, images, key)
    updates, opt_state = optimizer.update(grads, opt_state)
    params = optax.apply_updates(params, updates)
    average = optax.incremental_update(params, average, 1 - DECAY)
    return params, average, opt_state, loss


@partial(jax.jit, static_argnames=("model", "count"))
def sample(params, key, *, model, count):
    """Returns images [count, 28, 28, 1] of -1..1."""

    def step(x, times):
        t, following = times
        (image_share, noise_share), (next_image, next_noise) = signal(t), signal(following)
        noise = model.apply(params, x, jnp.full(count, t))
        image = jnp.clip((x - noise_share * noise) / image_share, -1, 1)
        return next_image * image + next_noise * noise, None

    times = jnp.linspace(1, 0, SAMPLER_STEPS + 1)
    noise = jax.random.normal(key, (count, 28, 28, 1))
    return jnp.clip(jax.lax.scan(step, noise, (times[:-1], times[1:]))[0], -1, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path("runs/ddpm"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    train, test = (open_idx(split, options.folder) for split in ("train", "test"))
    preset, name, weights = "edm", "FID", options.weights
    if weights is None:
        preset, name, weights = "own", "Frechet distance", str(options.output / "classifier")
        data = ["--data.name", "idx", "--data.directory", options.folder, "--workdir", weights]
        if run_command(["train", "mnist_bn", *data, "--steps", CLASSIFIER_STEPS]):
            raise SystemExit("the classifier could not be trained")
    evaluator = Evaluator(weights, preset, batch_size=128)
    evaluator.add(np.asarray(test.images)[:, :, :, None], "real")

    model, optimizer = Denoiser(), optax.adam(2e-3)
    params = model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), jnp.zeros(1))
    average, opt_state = jax.tree.map(jnp.copy, params), optimizer.init(params)
    order, scores = np.random.default_rng(0), {}
    for step in range(options.steps + 1):
        if step % EVERY == 0:
            images = sample(average, jax.random.key(1), model=model, count=SAMPLES)
            evaluator.add(images, value_range="-1..1")
            scores[step] = evaluator.submit()  # the root is taken while training goes on
            print(f"step {step} of {options.steps}", file=sys.stderr, flush=True)
        rows = order.integers(0, len(train.images), BATCH)
        given = (params, average, opt_state, train.images[rows], jax.random.key(step + 2))
        params, average, opt_state, _ = train_step(*given, model=model, optimizer=optimizer)
    found = {step: score.result()["fid"] for step, score in scores.items()}
    print("\n".join(f"step {step}: {name} {format_score(one)}" for step, one in found.items()))
    draw(found, np.asarray(images), name, options.output / "fid_over_time.png")


def draw(found, images, name, file):
    """Draws the scores over the steps with their intervals of 95 %, and samples of the end."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    numbers = np.array([(one.value, one.half_width or 0) for one in found.values()]).T
    left.errorbar(list(found), numbers[0], yerr=numbers[1], capsize=3, color="#c0392b")
    left.set(xlabel="step", ylabel=f"{name} of {SAMPLES:,} images")
    tiles = images[:64, :, :, 0].reshape(8, 8, 28, 28).transpose(0, 2, 1, 3).reshape(224, 224)
    right.imshow(tiles, cmap="gray")
    right.axis("off")
    figure.savefig(file, dpi=110)
    print(file)


if __name__ == "__main__":
    main()
