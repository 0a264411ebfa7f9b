"""Conversion of arrays to and from another project: a bijection, checked before it is used."""

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
from inception_jax.weights.convert.source_spec import ArrayShape, SourceSpec

Arrays = Mapping[str, np.ndarray]


class Converted(NamedTuple):
    """Converted weights.

    Attributes:
      network: The network that the variables fit.
      variables: `{"params": ..., "batch_stats": ...}`.
      notes: Texts about adjustments, for people.
    """

    network: Network
    variables: dict[str, Any]
    notes: tuple[str, ...] = ()


def to_ours(source_spec: SourceSpec, arrays: Arrays) -> Converted:
    """Returns the variables of this package from a project's arrays by name.

    Floats of less than 32 bits become float32. The number of classes is that of the classifier that
    is found, which may have another name than the project's; without one the network has no
    classifier and gives pooled features. Auxiliary heads exist if the arrays have them.

    Args:
      origin: The network as the project publishes it.
      arrays: The project's arrays by name.

    Raises:
      DataError: Arrays are missing, left over, of another shape, not floats or not finite; the
        message names all of them.
    """
    found = {
        name: array
        for name, array in arrays.items()
        if not re.fullmatch(source_spec.framework.ignored, name)
    }
    found, notes = _with_head(source_spec, found)
    network = create(
        source_spec.model,
        variant=source_spec.variant,
        num_classes=_classes(source_spec, found),
        aux=_has_heads(source_spec, found),
    )
    wanted = list(source_spec.arrays(list_shapes(network)))
    _compared(source_spec, {array.theirs: array.layout.shape for array in wanted}, found)
    leaves = {
        array.ours: array.layout.ours(_floats(array.theirs, found[array.theirs]))
        for array in wanted
    }
    return Converted(
        network, {"params": {}, "batch_stats": {}} | unflatten_dict(leaves, sep="/"), notes
    )


def list_trunk_names(source_spec: SourceSpec) -> list[str]:
    """Returns the project's names of all arrays but those of classifier and auxiliary heads."""
    network = create(source_spec.model, variant=source_spec.variant, num_classes=0)
    return [array.theirs for array in source_spec.arrays(list_shapes(network))]


def to_theirs(
    source_spec: SourceSpec, network: Network, variables: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Returns `variables` under the project's names and in its layout: the inverse of `to_ours`.

    Raises:
      DataError: The variables are of another network.
    """
    own = flatten_dict(variables, sep="/")
    expected = list_shapes(network)
    if differing := [
        path
        for path in {**expected, **own}
        if own.get(path, np.zeros(0)).shape != expected.get(path)
    ]:
        raise DataError(
            f"these are no variables of {source_spec.model} ({source_spec.variant}): "
            f"{format_some(sorted(differing), 5)}"
        )
    return {
        array.theirs: array.layout.theirs(own[array.ours]) for array in source_spec.arrays(expected)
    }


def list_shapes(network: Network) -> dict[str, ArrayShape]:
    """Returns path -> shape of a network's variables, with auxiliary heads if it has them."""
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


def _head(source_spec: SourceSpec) -> tuple[str, str, int]:
    """Returns the project's names of the classifier's kernel and bias, and its number of inputs."""
    (head,) = (
        layer
        for layer in source_spec.names.layers(source_spec.architecture)
        if layer.row.path.split("/")[0] == source_spec.architecture.logits_row
    )
    place = f"{head.convolution}{source_spec.framework.joint}"
    return (
        f"{place}{source_spec.framework.kernel}",
        f"{place}{source_spec.framework.bias}",
        math.prod(head.row.input),
    )


def _with_head(
    source_spec: SourceSpec, found: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns `found` with the classifier under the project's name, and a note about it."""
    kernel, bias, features = _head(source_spec)
    if kernel in found or bias in found:
        return found, ()
    own, first = (
        {array.theirs for array in source_spec.arrays(_with_classes(source_spec, 1))},
        source_spec.framework.outputs_first,
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
            and name.endswith(f"{source_spec.framework.joint}{source_spec.framework.kernel}")
            and len(shape) == 2
        ):
            fitting += [name] if shape[1 if first else 0] == features else []
    if not fitting:
        return found, ("it has no classifier: it gives features alone",)
    if len(fitting) > 1:
        return found, ()
    (name,) = fitting
    place = name.removesuffix(source_spec.framework.kernel)
    array = found.pop(name)
    matrix = array.reshape(array.shape[:2] if first else array.shape[-2:])
    classes = matrix.shape[0 if first else 1]
    wanted = next(
        one.layout.shape
        for one in source_spec.arrays(_with_classes(source_spec, classes))
        if one.theirs == kernel
    )
    given = found.pop(f"{place}{source_spec.framework.bias}", None)
    no_bias = "" if given is not None else ", and has no bias: it is 0"
    found |= {
        kernel: matrix.reshape(wanted),
        bias: np.zeros(classes, np.float32) if given is None else given,
    }
    return found, (
        f"its classifier is called {place.rstrip(source_spec.framework.joint)}{no_bias}",
    )


def _with_classes(source_spec: SourceSpec, classes: int) -> dict[str, ArrayShape]:
    return list_shapes(
        create(
            source_spec.model,
            variant=source_spec.variant,
            num_classes=classes,
            aux=bool(source_spec.architecture.aux),
        )
    )


def _classes(source_spec: SourceSpec, found: Arrays) -> int:
    """Returns those of the head in `found`, 0 where there is none."""
    kernel, bias, _ = _head(source_spec)
    if kernel in found:
        shape = found[kernel].shape
        return (shape[0] if source_spec.framework.outputs_first else shape[-1]) if shape else 0
    if bias in found:
        raise DataError(
            f"there is no array {kernel}, the classifier of {source_spec.model}, and there is its "
            f"{bias}: is the file whole?"
        )
    return 0


def _has_heads(source_spec: SourceSpec, found: Arrays) -> bool:
    """Whether there is anything of an auxiliary head."""
    places = {head.name for head in source_spec.architecture.aux}
    heads = {
        layer.convolution
        for layer in source_spec.names.layers(source_spec.architecture)
        if layer.row.path.split("/")[0] in places
    }
    return any(
        name.startswith(f"{head}{source_spec.framework.joint}") for head in heads for name in found
    )


def _compared(source_spec: SourceSpec, wanted: Mapping[str, ArrayShape], found: Arrays) -> None:
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
            f"these are not the arrays of {source_spec.model} ({source_spec.variant}), which has "
            f"{len(wanted)}: " + "; ".join(lines) + ": is it "
            "another model, or another project's?"
        )


def _floats(name: str, array: np.ndarray) -> np.ndarray:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise DataError(f"{name} is {array.dtype}; weights are floats")
    if not np.isfinite(array.astype(np.float32) if array.dtype.itemsize < 4 else array).all():
        raise DataError(f"{name} is NaN or infinite: such weights are of no use")
    return array if array.dtype == np.float64 else array.astype(np.float32)
