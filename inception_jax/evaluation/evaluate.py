"""Evaluation of a network without a run, from Python."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from inception_jax.data.source import DataError
from inception_jax.evaluation.predictions import Predictions, compute_metrics
from inception_jax.nn.network import Network
from inception_jax.training.steps import log_probability_step


def evaluate(
    network: Network, variables: Mapping[str, Any], batches: Iterable[tuple[Any, Any]]
) -> dict[str, float]:
    """Returns the metrics of `network` over `batches`, computed with one compiled program.

    Args:
      batches: Pairs of images [b, H, W, C], scaled for the network ([-1, 1] for the Inceptions),
        and labels [b]. No batch is larger than the first; smaller ones are padded for the
        computation alone.

    Returns:
      `top1` and `top5` with `top1_interval` and `top5_interval` (half of Wilson's 95 % interval),
        `nll` in nats, `calibration_error`, `count`.

    Raises:
      DataError: There are no batches, a batch is larger than the first, or images and labels differ
        in number.
    """
    step = jax.jit(partial(log_probability_step, network=network, prepare=lambda images: images))
    size, logs, labels = 0, [], []
    for images, own in batches:
        count = len(own)
        size = size or count
        if len(images) != count or count > size:
            raise DataError(
                f"a batch of {len(images)} images and {count} labels: wanted are as many of both, "
                f"and at most {size}"
            )
        filled = (
            np.concatenate([images, np.zeros((size - count, *np.shape(images)[1:]), images.dtype)])
            if count < size
            else images
        )
        logs.append(np.asarray(step(variables, filled), np.float64)[:count])
        labels.append(np.asarray(own))
    if not labels:
        raise DataError("there are no batches to score")
    log_probabilities, label = np.concatenate(logs), np.concatenate(labels)
    likelihood = log_probabilities[np.arange(len(label)), label]
    found = Predictions(np.exp(log_probabilities), label, np.ones(len(label), bool), likelihood)
    return {name: value for name, value in compute_metrics(found).items() if name != "skipped"}
