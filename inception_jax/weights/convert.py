"""From the arrays of another project to our variables, and back: a bijection, checked before anything is made of it."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.data.source import DataError
from inception_jax.nn.create import create
from inception_jax.nn.network import Network
from inception_jax.weights.origin import Origin, Shape
from inception_jax.weights.tree import flat, nested

Arrays = Mapping[str, np.ndarray]


class Converted(NamedTuple):
    """Variables of ours, and the network that they fit."""

    network: Network
    variables: dict[str, Any]


def ours(origin: Origin, arrays: Arrays) -> Converted:
    """What `origin`'s `arrays`, by their names there, are here. Floats of less than 32 bits become float32.

    The number of classes is that of the head that is found; auxiliary heads are there where the arrays have them.

    Raises:
      DataError: an array that is missing, left over, of another shape or not of floats; all of them are named.
    """
    found = {name: array for name, array in arrays.items() if not re.fullmatch(origin.framework.ignored, name)}
    network = create(origin.model, variant=origin.variant, num_classes=_classes(origin, found), aux=_has_heads(origin, found))
    wanted = list(origin.arrays(shapes(network)))
    _compared(origin, {array.theirs: array.layout.shape for array in wanted}, found)
    leaves = {array.ours: array.layout.ours(_floats(array.theirs, found[array.theirs])) for array in wanted}
    return Converted(network, nested(leaves))


def theirs(origin: Origin, network: Network, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What `variables` are called, and how they lie, there: the inverse of `ours`.

    Raises:
      DataError: variables of another network.
    """
    own = flat(variables)
    expected = shapes(network)
    if differing := [path for path in {**expected, **own} if own.get(path, np.zeros(0)).shape != expected.get(path)]:
        raise DataError(f"these are no variables of {origin.model} ({origin.variant}): {_some(sorted(differing))}")
    return {array.theirs: array.layout.theirs(own[array.ours]) for array in origin.arrays(expected)}


def shapes(network: Network) -> dict[str, Shape]:
    """Path -> shape of a network's variables, those of its auxiliary heads where it has them."""
    table = network.architecture
    image = jax.ShapeDtypeStruct((1, table.input_size, table.input_size, table.channels), jnp.float32)
    return {path: leaf.shape for path, leaf in flat(jax.eval_shape(network.init, jax.random.key(0), image)).items()}


def _classes(origin: Origin, found: Arrays) -> int:
    """Of the head in `found`."""
    (head,) = (layer for layer in origin.names.layers(origin.architecture) if layer.row.path.split("/")[0] == origin.architecture.logits)
    name = f"{head.convolution}{origin.framework.joint}{origin.framework.kernel}"
    if name not in found:
        raise DataError(f"there is no array {name}, the classifier of {origin.model}; there are {_some(list(found))}: is it another model?")
    shape = found[name].shape
    return (shape[0] if origin.framework.outputs_first else shape[-1]) if shape else 0


def _has_heads(origin: Origin, found: Arrays) -> bool:
    """Whether there is anything of an auxiliary head."""
    places = {head.name for head in origin.architecture.aux}
    heads = {layer.convolution for layer in origin.names.layers(origin.architecture) if layer.row.path.split("/")[0] in places}
    return any(name.startswith(f"{head}{origin.framework.joint}") for head in heads for name in found)


def _compared(origin: Origin, wanted: Mapping[str, Shape], found: Arrays) -> None:
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    other = [
        f"{name} is {list(found[name].shape)}, wanted is {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    ]
    lines = [
        f"{len(names)} {kind}: {_some(names)}"
        for kind, names in (("missing", missing), ("left over", extra), ("of another shape", other))
        if names
    ]
    if lines:
        raise DataError(
            f"these are not the arrays of {origin.model} ({origin.variant}), which has {len(wanted)}: " + "; ".join(lines) + ": is it "
            "another model, or another project's?"
        )


def _floats(name: str, array: np.ndarray) -> np.ndarray:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise DataError(f"{name} is {array.dtype}; weights are floats")
    return array if array.dtype == np.float64 else array.astype(np.float32)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names) - 5} more)" if len(names) > 5 else "")
