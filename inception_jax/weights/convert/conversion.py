"""From the arrays of another project to our variables, and back: a bijection, checked before anything is made of it."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from inception_jax.data.source import DataError
from inception_jax.nn.create import create
from inception_jax.nn.network import Network
from inception_jax.weights.convert.selection import format_some
from inception_jax.weights.convert.source_spec import Shape, SourceSpec

Arrays = Mapping[str, np.ndarray]


class Converted(NamedTuple):
    """Variables of ours, the network that they fit, and what was done to make them fit, for people."""

    network: Network
    variables: dict[str, Any]
    notes: tuple[str, ...] = ()


def to_ours(origin: SourceSpec, arrays: Arrays) -> Converted:
    """Returns what `origin`'s `arrays`, by their names there, are here. Floats of less than 32 bits become float32.

    The number of classes is that of the head that is found, which may be called otherwise than the project's; without a head the network
    has none, and gives features. Auxiliary heads are there where the arrays have them.

    Raises:
      DataError: an array that is missing, left over, of another shape, not of floats or not finite; all of them are named.
    """
    found = {
        name: array
        for name, array in arrays.items()
        if not re.fullmatch(origin.framework.ignored, name)
    }
    found, notes = _with_head(origin, found)
    network = create(
        origin.model,
        variant=origin.variant,
        num_classes=_classes(origin, found),
        aux=_has_heads(origin, found),
    )
    wanted = list(origin.arrays(list_shapes(network)))
    _compared(origin, {array.theirs: array.layout.shape for array in wanted}, found)
    leaves = {
        array.ours: array.layout.ours(_floats(array.theirs, found[array.theirs]))
        for array in wanted
    }
    return Converted(
        network, {"params": {}, "batch_stats": {}} | unflatten_dict(leaves, sep="/"), notes
    )


def list_trunk_names(origin: SourceSpec) -> list[str]:
    """Returns the names in the project of all arrays but those of the classifier and of auxiliary heads, in the order of the network."""
    network = create(origin.model, variant=origin.variant, num_classes=0)
    return [array.theirs for array in origin.arrays(list_shapes(network))]


def to_theirs(
    origin: SourceSpec, network: Network, variables: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """What `variables` are called, and how they lie, there: the inverse of `to_ours`.

    Raises:
      DataError: variables of another network.
    """
    own = flatten_dict(variables, sep="/")
    expected = list_shapes(network)
    if differing := [
        path
        for path in {**expected, **own}
        if own.get(path, np.zeros(0)).shape != expected.get(path)
    ]:
        raise DataError(
            f"these are no variables of {origin.model} ({origin.variant}): "
            f"{format_some(sorted(differing), 5)}"
        )
    return {array.theirs: array.layout.theirs(own[array.ours]) for array in origin.arrays(expected)}


def list_shapes(network: Network) -> dict[str, Shape]:
    """Path -> shape of a network's variables, those of its auxiliary heads where it has them."""
    table = network.architecture
    image = jax.ShapeDtypeStruct(
        (1, table.input_size, table.input_size, table.channels), jnp.float32
    )
    return {
        path: leaf.shape
        for path, leaf in flatten_dict(
            jax.eval_shape(network.init, jax.random.key(0), image), sep="/"
        ).items()
    }


def _head(origin: SourceSpec) -> tuple[str, str, int]:
    """Returns the names of the classifier's kernel and bias in the project, and the number of features that it reads."""
    (head,) = (
        layer
        for layer in origin.names.layers(origin.architecture)
        if layer.row.path.split("/")[0] == origin.architecture.logits_row
    )
    place = f"{head.convolution}{origin.framework.joint}"
    return (
        f"{place}{origin.framework.kernel}",
        f"{place}{origin.framework.bias}",
        math.prod(head.row.input),
    )


def _with_head(origin: SourceSpec, found: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns `found` with a classifier that has another name there by the project's own, and what was done, for people."""
    kernel, bias, features = _head(origin)
    if kernel in found or bias in found:
        return found, ()
    own, first = (
        {array.theirs for array in origin.arrays(_with_classes(origin, 1))},
        origin.framework.outputs_first,
    )
    fitting = []
    for name, array in found.items():
        shape = [
            side
            for i, side in enumerate(array.shape)
            if array.ndim != 4 or i not in ((2, 3) if first else (0, 1)) or side != 1
        ]
        if (
            name not in own
            and name.endswith(f"{origin.framework.joint}{origin.framework.kernel}")
            and len(shape) == 2
        ):
            fitting += [name] if shape[1 if first else 0] == features else []
    if not fitting:
        return found, ("it has no classifier: it gives features alone",)
    if len(fitting) > 1:
        return found, ()
    (name,) = fitting
    place = name.removesuffix(origin.framework.kernel)
    array = found.pop(name)
    matrix = array.reshape(array.shape[:2] if first else array.shape[-2:])
    classes = matrix.shape[0 if first else 1]
    wanted = next(
        one.layout.shape
        for one in origin.arrays(_with_classes(origin, classes))
        if one.theirs == kernel
    )
    given = found.pop(f"{place}{origin.framework.bias}", None)
    no_bias = "" if given is not None else ", and has no bias: it is 0"
    found |= {
        kernel: matrix.reshape(wanted),
        bias: np.zeros(classes, np.float32) if given is None else given,
    }
    return found, (f"its classifier is called {place.rstrip(origin.framework.joint)}{no_bias}",)


def _with_classes(origin: SourceSpec, classes: int) -> dict[str, Shape]:
    return list_shapes(
        create(
            origin.model,
            variant=origin.variant,
            num_classes=classes,
            aux=bool(origin.architecture.aux),
        )
    )


def _classes(origin: SourceSpec, found: Arrays) -> int:
    """Returns those of the head in `found`, 0 where there is none."""
    kernel, bias, _ = _head(origin)
    if kernel in found:
        shape = found[kernel].shape
        return (shape[0] if origin.framework.outputs_first else shape[-1]) if shape else 0
    if bias in found:
        raise DataError(
            f"there is no array {kernel}, the classifier of {origin.model}, and there is its "
            f"{bias}: is the file whole?"
        )
    return 0


def _has_heads(origin: SourceSpec, found: Arrays) -> bool:
    """Whether there is anything of an auxiliary head."""
    places = {head.name for head in origin.architecture.aux}
    heads = {
        layer.convolution
        for layer in origin.names.layers(origin.architecture)
        if layer.row.path.split("/")[0] in places
    }
    return any(
        name.startswith(f"{head}{origin.framework.joint}") for head in heads for name in found
    )


def _compared(origin: SourceSpec, wanted: Mapping[str, Shape], found: Arrays) -> None:
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    other = [
        f"{name} is {list(found[name].shape)}, wanted is {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    ]
    lines = [
        f"{len(names)} {kind}: {format_some(names, 5)}"
        for kind, names in (("missing", missing), ("left over", extra), ("of another shape", other))
        if names
    ]
    if lines:
        raise DataError(
            f"these are not the arrays of {origin.model} ({origin.variant}), which has "
            f"{len(wanted)}: " + "; ".join(lines) + ": is it "
            "another model, or another project's?"
        )


def _floats(name: str, array: np.ndarray) -> np.ndarray:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise DataError(f"{name} is {array.dtype}; weights are floats")
    if not np.isfinite(array.astype(np.float32) if array.dtype.itemsize < 4 else array).all():
        raise DataError(f"{name} is NaN or infinite: such weights are of no use")
    return array if array.dtype == np.float64 else array.astype(np.float32)
