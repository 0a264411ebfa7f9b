"""How a run is scored: crops, parameters, and the statistics that normalisation uses."""

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
    """What is averaged, and by which statistics it is normalised.

    Attributes:
      crops: views of each image whose probabilities are averaged: 1, 6, 10, 12 or 144.
      parameters: `average_moments` are the moving averages, where the run keeps them.
      statistics: `running` as training left them; `population` and `pooled` (see `population`) from `batches` training
        batches; `batch`, the statistics of the evaluated batch itself.
      sizes: pixels that the network is run at, whose probabilities are averaged too; the run's own size where none is given.
    """

    crops: int = 1
    parameters: Literal["averaged", "raw"] = "averaged"
    statistics: Literal["running", "population", "pooled", "batch"] = "running"
    batches: int = 100
    sizes: tuple[int, ...] = ()


def score_run(run: Run, state: State, protocol: Protocol) -> Predictions:
    """Every held-out example of `run`, by `protocol`; a program is compiled for each size, and one more where statistics are taken.

    Raises:
      ConfigError: a protocol that this run cannot be scored by.
    """
    variables = select_variables(run, state, protocol)
    return average_predictions(
        [
            _scored(run.with_image_size(size), variables, protocol)
            for size in protocol.sizes or (run.config.data.image_size,)
        ]
    )


def _scored(run: Run, variables: Mapping[str, Any], protocol: Protocol) -> Predictions:
    if protocol.statistics == "batch":
        step = run.placement.compile(partial(batch_statistics_step, run=run))
    else:
        step = lambda variables, batch: run.log_probability_step(variables, batch.image)  # noqa: E731
    return predict_all(
        step, variables, run.test_batches(protocol.crops), examples=len(run.test_source), crops=protocol.crops,
        gather=run.placement.gather, may_skip=run.may_skip,
    )  # fmt: skip


def select_variables(run: Run, state: State, protocol: Protocol) -> dict[str, Any]:
    """The variables that `protocol` scores."""
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
    """`batch_stats` from the first `batches` training batches of `run`, augmented as in training."""
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
    """How far running statistics are from the population's, under the same parameters, and what that costs.

    Returns:
      `layers`, a record of each normalisation, the worst first: `name`, `mean`, `variance` and `factor` as in `Health`;
      and the top-1 under `running` and under `population` statistics.
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
    """Log-probabilities [B, K] under the statistics of the batch's own examples, without what only fills it up."""
    images = run.prepare_evaluation(batch.image)
    outputs, _ = without_dropout(run.network).apply(
        variables, images, train=True, mask=batch.weight > 0, mutable=["batch_stats"]
    )
    return jax.nn.log_softmax(outputs.logits)
