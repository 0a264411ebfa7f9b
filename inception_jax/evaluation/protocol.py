"""Evaluation protocols: crops, parameters, and the statistics of normalisation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax

from inception_jax.config import ConfigError
from inception_jax.data.batches import Batch
from inception_jax.evaluation.population import (
    BatchMoments,
    StatisticsKind,
    average_moments,
    collecting_stats,
    compute_batch_moments,
    measure_drift,
    without_dropout,
)
from inception_jax.evaluation.predictions import (
    Predictions,
    average_predictions,
    compute_metrics,
    predict_all,
)
from inception_jax.experiment import Run
from inception_jax.training.state import State
from inception_jax.training.steps import make_example_keys


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol: crops, parameters, and the statistics of normalisation.

    Attributes:
      crops: Number of views of each image whose probabilities are averaged: 1, 6, 10, 12 or 144.
      parameters: `averaged` for the moving averages, if the run keeps them; `raw` for the newest.
      statistics: `running` of training; `population` and `pooled` (see `population`) from `batches`
        training batches; `batch`, those of the evaluated batch itself.
      batches: Number of training batches.
      sizes: Image sizes in pixels whose probabilities are averaged; empty for the run's own.
    """

    crops: int = 1
    parameters: Literal["averaged", "raw"] = "averaged"
    statistics: Literal["running", "population", "pooled", "batch"] = "running"
    batches: int = 100
    sizes: tuple[int, ...] = ()


def score_run(run: Run, state: State, protocol: Protocol) -> Predictions:
    """Returns the predictions of `run` for every held-out example.

    Compiles a program for each image size, and one more for population statistics.

    Raises:
      ConfigError: The protocol does not apply to this run.
    """
    variables = select_variables(run, state, protocol)
    return average_predictions(
        [
            _scored(run.with_image_size(size), variables, protocol)
            for size in protocol.sizes or (run.config.data.image_size,)
        ]
    )


def _scored(run: Run, variables: Mapping[str, Any], protocol: Protocol) -> Predictions:
    def compute_log_probabilities(variables: Mapping[str, Any], batch: Batch) -> jax.Array:
        return run.log_probability_step(variables, batch.image)

    step = compute_log_probabilities
    if protocol.statistics == "batch":
        step = run.placement.compile(partial(batch_statistics_step, run=run))
    return predict_all(
        step, variables, run.test_batches(protocol.crops), examples=len(run.test_source),
        crops=protocol.crops, gather=run.placement.gather, may_skip=run.may_skip,
    )  # fmt: skip


def select_variables(run: Run, state: State, protocol: Protocol) -> dict[str, Any]:
    """Returns the variables that `protocol` evaluates."""
    variables = (
        state.variables
        if protocol.parameters == "averaged"
        else {"params": state.params, "batch_stats": state.batch_stats}
    )
    if protocol.statistics in ("running", "batch"):
        return variables
    kind: StatisticsKind = "population" if protocol.statistics == "population" else "pooled"
    return {
        **variables,
        "batch_stats": estimate_population_statistics(run, variables, kind, protocol.batches),
    }


def estimate_population_statistics(
    run: Run, variables: Mapping[str, Any], kind: StatisticsKind, batches: int
) -> Any:
    """Returns `batch_stats` from the first `batches` training batches, augmented as in training."""
    if not variables.get("batch_stats"):
        raise ConfigError(
            f"{run.config.model.name} has no batch normalisation: its statistics are none"
        )
    network = collecting_stats(run.network, kind)

    def look(variables: Mapping[str, Any], batch: Batch) -> BatchMoments:
        keys = make_example_keys(run.config.seed, batch.position)
        return compute_batch_moments(
            variables,
            batch,
            keys,
            network=network,
            prepare=run.prepare_training,
            masked=run.may_skip,
        )

    look = run.placement.compile(look)
    stats = average_moments(
        (look(variables, batch) for batch in run.train_batches(0, batches)), kind
    )
    return jax.device_put(
        stats, run.placement.replicated
    )  # as training left its own, or evaluation would compile again


def compare_statistics(run: Run, state: State, protocol: Protocol) -> dict[str, Any]:
    """Returns the drift of running from population statistics, and its effect on accuracy.

    Returns:
      `layers`: for each norm, the largest drift first, `name`, `mean`, `variance` and `factor` of
        `BatchNormDrift`; and the top-1 with `running` and with `population` statistics, under the
        same parameters.
    """
    variables = select_variables(run, state, replace(protocol, statistics="running"))
    population = {
        **variables,
        "batch_stats": estimate_population_statistics(
            run, variables, "population", protocol.batches
        ),
    }
    single = Protocol(parameters=protocol.parameters)
    top1 = {
        name: compute_metrics(_scored(run, of, single))["top1"]
        for name, of in (("running", variables), ("population", population))
    }
    found = measure_drift(variables["batch_stats"], population["batch_stats"])
    return {"layers": [one._asdict() for one in found], **top1}


def batch_statistics_step(variables: Mapping[str, Any], batch: Batch, *, run: Run) -> jax.Array:
    """Returns log-probabilities [B, K] under the statistics of the batch, without padding."""
    images = run.prepare_evaluation(batch.image)
    outputs, _ = without_dropout(run.network).apply(
        variables, images, train=True, mask=batch.weight > 0, mutable=["batch_stats"]
    )
    return jax.nn.log_softmax(outputs.logits)
