"""The outline of a recipe: its size, steps, learning rate, norm groups and assumed defaults."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import attrgetter

import numpy as np

from inception_jax.config import ConfigError
from inception_jax.data.source import ArraySource, DataError
from inception_jax.data.tfds import look_up_split
from inception_jax.experiment import Run


def format_outline(run: Run, assumptions: Mapping[str, str]) -> Iterator[str]:
    """Yields the outline of a run as lines of text.

    Data that are not present count with the size that TFDS or their own documentation states.

    Args:
      run: The run.
      assumptions: The fields whose values are not published -> the reason for the assumed default.

    Raises:
      DataError: Data are not present and their size is unknown, or held-out data are wrong.
      ConfigError: The configuration cannot be run.
    """
    run = with_placeholder_data(run)
    run.format_summary()
    has_data = run.given_source is None
    if has_data:
        run.check_test_data()
    config, steps, per_epoch = run.config, run.steps, run.steps_per_epoch
    yield (
        f"model: {config.model.name}, {run.parameters:,} parameters, {_count_multiply_adds(run)} "
        "multiply-adds an image"
    )
    held_out = f"{len(run.test_source):,} held out" if has_data else "which are not here"
    yield (
        f"data: {run.train_examples:,} examples of {config.data.name}, {held_out}, "
        f"{len(run.class_names):,} classes, {config.data.image_size} px"
    )
    yield (
        f"steps: {steps:,} of {config.batch_size:,} examples, {steps / per_epoch:,.1f} epochs of "
        f"{per_epoch:,.1f} steps"
    )
    steps_shown = {f"epoch {epoch}": round(epoch * per_epoch) for epoch in (0, 1, 10)}
    steps_shown["the last step"] = steps - 1
    rates = [
        f"{float(run.schedule(step)):.4g} at {label}"
        for label, step in steps_shown.items()
        if step < steps
    ]
    yield f"learning rate ({config.schedule.name}): {', '.join(rates)}"
    group = config.norm.examples_per_group or config.batch_size
    window = 1 / (1 - config.norm.decay)
    hint = "; longer than the run: evaluate with population statistics" if window > steps else ""
    yield (
        f"batch norm: over {group:,} examples, running statistics over about {window:,.0f} "
        f"steps{hint}"
    )
    rule = config.optimizer
    yield (
        f"optimizer: {rule.name}, momentum {rule.momentum}, L2 {rule.l2}, clipping "
        f"{rule.clip_norm}, moving average {rule.average_decay}"
    )
    for name, reason in assumptions.items():
        yield f"assumed default: {name} = {attrgetter(name)(config)}: {reason}"


def _count_multiply_adds(run: Run) -> str:
    try:
        count = run.measurement.multiply_adds
    except ConfigError:  # a custom layer without an output shape
        count = None
    return "an unknown number of" if count is None else f"{count:,}"


def with_placeholder_data(run: Run) -> Run:
    """Returns the run; data that are not present are replaced by a source of the same size.

    Raises:
      DataError: Their size is unknown.
    """
    try:
        _ = run.train_source
    except DataError:
        data = run.config.data
        return replace(run, given_source=make_placeholder_source(data.name, data.train_split))
    return run


def make_placeholder_source(name: str, split: str) -> ArraySource:
    """Returns a source without images, with the size of `split` of the TFDS dataset `name`."""
    examples, class_names = look_up_split(name, split)
    return ArraySource(np.empty((0,)), np.broadcast_to(np.int32(0), (examples,)), class_names)
