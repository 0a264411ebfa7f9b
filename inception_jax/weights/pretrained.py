"""Trained networks in a line: `from_pretrained("inception_v3")`."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inception_jax.config import ConfigError
from inception_jax.models import ALIASES
from inception_jax.monitoring.progress import log_line
from inception_jax.weights import files
from inception_jax.weights.cards import Card
from inception_jax.weights.hub import (
    READERS,
    is_release_id,
    list_near_ids,
    list_releases,
    resolve_weights,
)
from inception_jax.weights.releases import Release

if TYPE_CHECKING:
    from inception_jax.nn.network import Network


def load(weights: str | Path) -> dict[str, Any]:
    """Returns the variables of weights: `{"params": ..., "batch_stats": ...}`, NumPy arrays.

    Args:
      weights: A weights file, or the id of a release (`timm/inception_v3.tv_in1k`).

    Raises:
      DataError: The file is not one of this package, or damaged; or the release cannot be had.
      ConfigError: There is no such release.
    """
    return files.read_file(resolve_weights(weights)).variables


def card(weights: str | Path) -> Card:
    """Returns the card of weights without reading their arrays.

    Args:
      weights: A weights file, or the id of a release.

    Raises:
      DataError, ConfigError: See `load`.
    """
    return files.read_card(resolve_weights(weights))


def from_pretrained(
    id_or_name: str | Path, num_classes: int | None = None
) -> "tuple[Network, dict[str, Any]]":
    """Returns a trained network and its variables.

        network, variables = from_pretrained("timm/inception_v3.tv_in1k")
        logits = network.apply(variables, images).logits

    `inception_jax.weights.card(id)` says what the network is fed.

    Args:
      id_or_name: The id of a release; the name of a network (`inception_v3`), for its best release;
        a weights file; or the workdir of a run.
      num_classes: Number of classes; another one than the weights' gets a new classifier,
        initialized from seed 0, and 0 none. Default: the weights'.

    Raises:
      ConfigError: There is no such release or network.
      DataError: The release cannot be had, or the file is damaged.
    """
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import flatten_dict, unflatten_dict

    from inception_jax.weights.trained_network import load_trained

    name = str(id_or_name)
    if not is_release_id(name) and not Path(name).exists() and not files.is_weights(name):
        release = choose_release(name)
        log_line(f"{name}: the weights are {release.id} ({release.licence})")
        name = release.id
    trained = load_trained(name)
    network, variables = trained.run.network, dict(trained.variables)
    if num_classes in (None, network.num_classes):
        return network, variables
    network = network.clone(num_classes=num_classes)
    size, channels = trained.card.data.image_size, network.architecture.channels
    image = jnp.zeros((1, size, size, channels))
    own = flatten_dict(jax.jit(network.init)(jax.random.key(0), image), sep="/")
    loaded = flatten_dict(variables, sep="/")
    new = [path for path in own if getattr(loaded.get(path), "shape", None) != own[path].shape]
    if new:
        log_line(f"{name}: new for {num_classes} classes are {', '.join(new)}")
    return network, unflatten_dict(
        {path: own[path] if path in new else loaded[path] for path in own}, sep="/"
    )


def choose_release(name: str) -> Release:
    """Returns the release of a network with the highest published top-1.

    Only releases that need no library of another project count, and whose licence allows
    commercial use.

    Raises:
      ConfigError: There is no such network, or no such release of it.
    """
    found = [
        release
        for release in list_releases()
        if release.model == ALIASES.get(name, name) and release.source not in READERS
        and (release.url or release.repository)
        and "-NC-" not in release.licence and "unknown" not in release.licence
    ]  # fmt: skip
    if not found:
        models = {release.model for release in list_releases()}
        near = difflib.get_close_matches(name.lower(), models, n=3) or list_near_ids(name)
        hint = f" (near are {', '.join(near)})" if near else ""
        raise ConfigError(
            f"{name!r} is no weights file, no workdir, and no network with released weights{hint}: "
            "`inception-jax weights list` names what there is"
        )
    return max(found, key=lambda release: release.top1 or 0)
