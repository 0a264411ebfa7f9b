"""Trained networks from a run's workdir or from a weights file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from inception_jax.atomic_io import wrap_read_errors
from inception_jax.data.images import FileSource
from inception_jax.data.source import DataError
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.monitoring.progress import log_line
from inception_jax.trainer.runs import open_run
from inception_jax.weights import files as file
from inception_jax.weights.cards import INPUT_FIELDS, UNKNOWN, Card, hash_arrays
from inception_jax.weights.convert.conversion import list_shapes
from inception_jax.weights.hub import resolve_on_all_processes


class TrainedNetwork(NamedTuple):
    """A trained network on this machine.

    Attributes:
      run: Its run.
      variables: Its variables, on the devices.
      card: Its card.
      name: Its name for messages.
    """

    run: Run
    variables: Mapping[str, Any]
    card: Card
    name: str


def load_trained(path: str) -> TrainedNetwork:
    """Returns a trained network: a workdir's newest, a weights file's, or a release's by its id.

    `path@STEP` is an earlier state of a workdir.

    Raises:
      DataError: The file is damaged, or its arrays are not those of its card's network.
      ConfigError: There is no such run or release, or the network is unknown.
      CheckpointError: A checkpoint is damaged.
    """
    path = resolve_on_all_processes(path)
    if file.is_weights(path):
        card, variables, _ = file.read_file(path)
        run = Run(card.experiment, all_devices_placement(), given_source=FileSource((), card.names))
        if card.format_version == 1 and run.placement.is_primary:
            log_line(
                f"{path} is of an earlier version: its images are not turned by their EXIF "
                "orientation, and it has no digest to compare"
            )
        own, expected = (
            {name: leaf.shape for name, leaf in flatten_dict(variables, sep="/").items()},
            list_shapes(run.network),
        )
        if own != expected:
            odd = sorted(
                name for name in own.keys() | expected.keys() if own.get(name) != expected.get(name)
            )
            raise DataError(
                f"{path}: {len(odd)} arrays are not as {card.model.name} has them here, {odd[0]} "
                f"among them ({own.get(odd[0])}, wanted is "
                f"{expected.get(odd[0])}): convert the weights again"
            )
        return TrainedNetwork(run, jax.device_put(variables, run.placement.replicated), card, path)
    if Path(path).is_file():
        raise DataError(
            f"{path} is neither a workdir nor a file of weights called .safetensors: if it is "
            "another project's, convert it first: "
            f"inception-jax convert {path} --from PROJECT --model NAME"
        )
    workdir, run, state = open_run(path)
    name = f"{path}, step {int(state.step)}"
    for place, leaf in flatten_dict(state.variables, sep="/").items():
        if leaf.is_fully_addressable and not np.isfinite(np.asarray(leaf)).all():
            raise DataError(
                f"{name}: {place} is NaN or infinite: take an earlier checkpoint, {path}@STEP"
            )
    data = {name: getattr(run.config.data, name) for name in INPUT_FIELDS}
    lineage = read_lineage(workdir)
    card = Card(
        run.config.model, type(run.config.data)(**data), len(run.class_names), run.class_names,
        source=f"inception_jax: {name}",
        licence=format_tuned_licence(lineage["licence"]) if lineage else UNKNOWN,
        tuned_from=lineage,
    )  # fmt: skip
    return TrainedNetwork(run, state.variables, card, name)


def get_digest(trained: TrainedNetwork) -> str:
    """Returns the digest of a network's arrays: that of its card, or else computed."""
    gathered = trained.run.placement.gather
    return trained.card.digest or hash_arrays(flatten_dict(gathered(trained.variables), sep="/"))


def format_tuned_licence(licence: str) -> str:
    """Returns the licence of weights that were tuned from others under `licence`."""
    start = "unknown; tuned from weights under: "
    return licence if licence.startswith(start) else start + licence


LINEAGE_FILE = "initial.json"
"""Name of the file, in a workdir, about the weights that the run was initialised from."""


def read_lineage(workdir: Any) -> dict[str, Any]:
    """Returns the lineage (`cards.Card.lineage`) of the weights that a run was initialised from.

    It is empty for a random initialisation.

    Raises:
      DataError: It cannot be read.
    """
    file = workdir / LINEAGE_FILE
    if not file.exists():
        return {}
    with wrap_read_errors(
        file, DataError, "take it away, and the lineage of the weights is unknown"
    ):
        found = json.loads(file.read_bytes())
        if not isinstance(found, dict) or not all(
            isinstance(found.get(name), str) for name in ("source", "licence")
        ):
            raise ValueError("wanted is an object with source and licence")
        return found
