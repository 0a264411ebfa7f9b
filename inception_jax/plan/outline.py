"""A recipe in ten lines: its steps, its learning rate, what shares statistics, and which values stand in for unpublished ones."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import attrgetter

import numpy as np

from inception_jax.config import ConfigError
from inception_jax.data.source import ArraySource, DataError
from inception_jax.data.tfds import look_up_split
from inception_jax.experiment import Run


def format_outline(run: Run, assumptions: Mapping[str, str]) -> Iterator[str]:
    """Lines of text. Data that are not here are taken to be as large as TFDS or its own documentation says.

    Raises:
      DataError: data that are not here, of a size that is not known; held-out data that are wrong.
      ConfigError: a configuration that cannot be run.
    """
    run = with_placeholder_data(run)
    run.format_summary()
    if run.given_source is None:
        run.check_test_data()
    config, steps, per_epoch = run.config, run.steps, run.steps_per_epoch
    yield f"model: {config.model.name}, {run.parameters:,} parameters, {_multiply_adds(run)} multiply-adds an image"
    held_out = (
        f", {len(run.test_source):,} held out"
        if run.given_source is None
        else ", which are not here"
    )
    classes = f"{len(run.class_names):,} classes"
    yield f"data: {run.train_examples:,} examples of {config.data.name}{held_out}, {classes}, {config.data.image_size} px"
    yield f"steps: {steps:,} of {config.batch_size:,} examples, {steps / per_epoch:,.1f} epochs of {per_epoch:,.1f} steps"
    rates = {f"epoch {epoch}": round(epoch * per_epoch) for epoch in (0, 1, 10)} | {
        "the last step": steps - 1
    }
    yield f"learning rate ({config.schedule.name}): " + ", ".join(
        f"{float(run.schedule(step)):.4g} at {when}" for when, step in rates.items() if step < steps
    )
    group = config.norm.examples_per_group or config.batch_size
    window = 1 / (1 - config.norm.decay)
    short = "; longer than the run: evaluate with population statistics" if window > steps else ""
    yield f"batch norm: over {group:,} examples, running statistics over about {window:,.0f} steps{short}"
    rule = config.optimizer
    yield f"optimizer: {rule.name}, momentum {rule.momentum}, L2 {rule.l2}, clipping {rule.clip_norm}, moving average {rule.average_decay}"
    for name, reason in assumptions.items():
        yield f"stand-in: {name} = {attrgetter(name)(config)}: {reason}"


def _multiply_adds(run: Run) -> str:
    try:
        count = run.measurement.multiply_adds
    except ConfigError:  # of a layer that does not tell its shape
        count = None
    return "an unknown number of" if count is None else f"{count:,}"


def with_placeholder_data(run: Run) -> Run:
    """The run, with a source of the right size in the place of data that are not here.

    Raises:
      DataError: their size is not known either.
    """
    try:
        _ = run.train_source
    except DataError:
        return replace(
            run,
            given_source=make_placeholder_source(run.config.data.name, run.config.data.train_split),
        )
    return run


def make_placeholder_source(name: str, split: str) -> ArraySource:
    """A source without images, as large as `split` of the TFDS dataset `name`."""
    examples, class_names = look_up_split(name, split)
    return ArraySource(np.empty((0,)), np.broadcast_to(np.int32(0), (examples,)), class_names)
