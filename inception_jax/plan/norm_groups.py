"""What shares batch statistics, where it lies, and whether it is enough."""

from dataclasses import replace
from itertools import count
from math import gcd, prod
from typing import NamedTuple

from inception_jax.config import ConfigError, Experiment
from inception_jax.experiment import Run


class NormGroups(NamedTuple):
    """The groups of a batch over its devices.

    Attributes:
      examples: in each.
      number: of groups in a batch.
      devices: that the examples of one group lie on, at most; 1 where nothing is told for their sake.
      norms: layers that take statistics, each of them over every group.
    """

    examples: int
    number: int
    devices: int
    norms: int


def compute_norm_groups(run: Run, devices: int) -> NormGroups:
    """How the batch of a run falls into groups over so many devices.

    Raises:
      ConfigError: a group so small that some layer takes the variance of one value, which is 0, and learns nothing.
    """
    config = run.config
    examples = config.norm.examples_per_group or config.batch_size
    rows = (*run.measurement.rows, *(run.measurement.aux_rows if config.model.aux else ()))
    norms = [row for row in rows if row.batch_stats and not config.norm.frozen]
    each = config.norm.per_activation_in
    values = {
        row.path: 1 if row.path.partition("/")[0] in each else prod(row.output.shape[:-1])
        for row in norms
    }
    if lonely := [path for path, count in values.items() if count * examples == 1]:
        raise ConfigError(
            f"norm.examples_per_group {config.norm.examples_per_group} over a batch of {config.batch_size} is too small: {lonely[0]} takes "
            "the variance of one value, which is 0; give it 2 or more"
        )
    share = config.batch_size / devices
    span = 1 if share % examples == 0 else _span(examples, config.batch_size, devices)
    return NormGroups(examples, config.batch_size // examples, span, len(norms))


def round_up_batch_size(config: Experiment, devices: int) -> Experiment:
    """The experiment; where so many devices cannot share its batch evenly, with the next larger that they can, and that has no group
    across the border of two shares without filling them (inception_v3 on 256 v5e would gather its activations for that)."""
    group = config.norm.examples_per_group
    if config.batch_size % devices == 0:
        return config
    fitting = (
        n
        for n in count(config.batch_size // devices + 1)
        if not group or (n * devices % group == 0 and 0 in (n % group, group % n))
    )
    return replace(config, batch_size=next(fitting) * devices)


def _span(examples: int, batch_size: int, devices: int) -> int:
    """The most devices that a run of `examples` rows touches, of which each holds batch_size / devices."""
    share = batch_size // devices or 1
    step = gcd(examples, share)  # where groups begin within a device's share
    return min(devices, (share - step + examples - 1) // share + 1)
