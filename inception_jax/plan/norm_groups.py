"""The groups of examples that share batch statistics, and their devices."""

from dataclasses import replace
from itertools import count
from math import gcd, prod
from typing import NamedTuple

from inception_jax.config import ConfigError, Experiment
from inception_jax.experiment import Run


class NormGroups(NamedTuple):
    """The norm groups of a batch over its devices.

    Attributes:
      examples: The number of examples in each group.
      num_groups: The number of groups in a batch.
      devices_per_group: The largest number of devices that hold examples of one group; 1 if no
        statistics are communicated.
      num_layers: The number of layers that compute batch statistics, each over every group.
    """

    examples: int
    num_groups: int
    devices_per_group: int
    num_layers: int


def compute_norm_groups(run: Run, devices: int) -> NormGroups:
    """Returns how the batch of a run is split into norm groups over so many devices.

    Raises:
      ConfigError: A layer takes the variance of a single value, which is 0: groups are too small.
    """
    config = run.config
    examples = config.norm.examples_per_group or config.batch_size
    rows = (*run.measurement.rows, *(run.measurement.aux_rows if config.model.aux else ()))
    norms = [row for row in rows if row.batch_stats and not config.norm.frozen]
    for row in norms:
        is_per_activation = row.path.partition("/")[0] in config.norm.per_activation_in
        values_per_example = 1 if is_per_activation else prod(row.output.shape[:-1])
        if values_per_example * examples == 1:
            raise ConfigError(
                f"norm.examples_per_group {config.norm.examples_per_group} over a batch of "
                f"{config.batch_size} is too small: {row.path} takes the variance of one value, "
                "which is 0; give it 2 or more"
            )
    share = config.batch_size / devices
    span = 1
    if share % examples:
        span = _count_spanned_devices(examples, config.batch_size, devices)
    return NormGroups(examples, config.batch_size // examples, span, len(norms))


def round_up_batch_size(config: Experiment, devices: int) -> Experiment:
    """Returns `config` with a batch that so many devices can share evenly.

    Of the larger batches it is the smallest that devices divide and in which no norm group crosses
    the border between two devices without filling both: for such a group, inception_v3 on 256 v5e
    would gather its activations.
    """
    group = config.norm.examples_per_group
    if config.batch_size % devices == 0:
        return config
    fitting = (
        n
        for n in count(config.batch_size // devices + 1)
        if not group or (n * devices % group == 0 and 0 in (n % group, group % n))
    )
    return replace(config, batch_size=next(fitting) * devices)


def _count_spanned_devices(examples: int, batch_size: int, devices: int) -> int:
    """Returns the largest number of devices that share a group of `examples` consecutive rows."""
    share = batch_size // devices or 1
    step = gcd(examples, share)  # the distance of possible group starts within a device's rows
    return min(devices, (share - step + examples - 1) // share + 1)
