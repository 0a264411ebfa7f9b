"""Selection of a network's arrays from a checkpoint with wrappers, prefixes and moving averages."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from inception_jax.data.source import DataError

Parameters = Literal["averaged", "raw"]
AVERAGED = re.compile(r"(?<![a-z])(?:ema|averaged?|avg|swa|polyak)(?![a-z])", re.IGNORECASE)
"""In the name of a wrapper or a prefix: `state_dict_ema`, `model_ema`, `ema_model.`, `averaged`."""
SLIM_AVERAGE = "/ExponentialMovingAverage"
"""Behind the name of an array, in TF-Slim's checkpoints."""
DEEPEST = 4
MAX_LISTED_PLACES = 12


class Selection(NamedTuple):
    """Arrays by their names in the project, and what was done to find them, for people."""

    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...]


class _Fit(NamedTuple):
    """A mapping of arrays in a checkpoint, with a prefix of the network's names."""

    place: str
    prefix: str
    arrays: Mapping[str, np.ndarray]
    matched: int

    @property
    def is_averaged(self) -> bool:
        return AVERAGED.search(f"{self.place} {self.prefix}") is not None

    def own(self) -> dict[str, np.ndarray]:
        """Returns the arrays under the prefix, by their names without it."""
        return {
            name.removeprefix(self.prefix): array
            for name, array in self.arrays.items()
            if name.startswith(self.prefix)
        }

    def __str__(self) -> str:
        return (
            " ".join(
                part for part in (self.place, f"{self.prefix}*" if self.prefix else "") if part
            )
            or "those without a prefix"
        )


def select_arrays(
    tree: Mapping[str, Any], wanted: Collection[str], *, parameters: Parameters = "averaged"
) -> Selection:
    """Returns the arrays of the network with the names `wanted` from a checkpoint.

    Args:
      tree: Arrays by name, or mappings of such, as training loops save them with optimizer and
        epoch.
      parameters: `averaged` prefers moving averages, `raw` excludes them.

    Raises:
      DataError: There are no arrays, two networks fit equally well, or `raw` finds only moving
        averages.
    """
    maps = list(_maps(tree))
    if not maps:
        raise DataError(
            f"there are no arrays by name in it; at its top level are {format_some(list(tree))}"
        )
    fits = [
        _Fit(place, prefix, arrays, count)
        for place, arrays in maps
        for prefix, count in _prefixes(arrays, wanted)
    ]
    if not fits:  # another network: what is missing is said by whoever compares
        fits = [
            max(
                (_Fit(place, "", arrays, 0) for place, arrays in maps),
                key=lambda fit: len(fit.arrays),
            )
        ]
    raw, averaged = (
        _best([fit for fit in fits if fit.is_averaged is kind]) for kind in (False, True)
    )
    chosen = averaged if averaged is not None and (parameters == "averaged" or raw is None) else raw
    assert chosen is not None
    if parameters == "raw" and chosen.is_averaged:
        raise DataError(f"it holds averaged arrays alone ({chosen}): leave out --parameters raw")
    arrays, notes = chosen.own(), []
    if raw and averaged:
        other = raw if chosen is averaged else averaged
        taken, left = ("averaged", "raw") if chosen is averaged else ("raw", "averaged")
        notes.append(
            f"it holds raw and averaged arrays: the {taken} ones are taken ({chosen}), not the "
            f"{left} ones ({other})"
        )
        if (
            chosen is averaged and averaged.matched < raw.matched
        ):  # those of parameters alone, beside raw statistics
            arrays = raw.own() | arrays
            notes.append(
                f"averaged are {averaged.matched} of the network's {raw.matched} arrays; the "
                "others "
                "are the raw ones"
            )
    elif chosen.is_averaged:
        notes.append(f"its arrays are averaged ones ({chosen})")
    elif chosen.place or chosen.prefix:
        notes.append(f"the network's arrays are {chosen}")
    prefixes = tuple(
        fit.prefix for fit in (raw, averaged) if fit is not None and fit.place == chosen.place
    )
    if outside := [name for name in chosen.arrays if not name.startswith(prefixes)]:
        notes.append(
            f"not used are {len(outside)} arrays that are not under {chosen.prefix}*: "
            f"{format_some(outside)}"
        )
    arrays, slim = _slim_averages(arrays, parameters)
    notes += slim
    return Selection(arrays, tuple(notes))


def _best(fits: list[_Fit]) -> _Fit | None:
    """Returns the fit with most of the network, the first of several equal ones.

    Raises:
      DataError: Two fits are different networks.
    """
    if not fits:
        return None
    most = max(fit.matched for fit in fits)
    first, *others = [fit for fit in fits if fit.matched == most]
    for other in others:
        own, there = first.own(), other.own()
        if own.keys() != there.keys() or not all(
            np.array_equal(own[name], there[name]) for name in own
        ):
            raise DataError(
                f"it holds two networks that fit, {first} and {other}: save the state dict of the "
                "one that is wanted"
            )
    return first


def to_numpy_arrays(tree: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """Returns the mappings of a checkpoint with the dense tensors of any library as NumPy arrays.

    Everything else is left out, and mappings below those that `select_arrays` looks at: a file can
    hold mappings that hold each other.
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            if depth < DEEPEST:
                found[str(name)] = to_numpy_arrays(value, depth + 1)
        elif hasattr(value, "detach"):  # PyTorch's, which NumPy has no 16-bit floats of
            if not (value.is_sparse or value.is_quantized):
                value = value.detach().cpu()
                found[str(name)] = (
                    value.float() if "float16" in str(value.dtype) else value
                ).numpy()
        elif hasattr(value, "shape") and hasattr(value, "dtype"):
            found[str(name)] = np.asarray(value)
    return found


def _maps(
    tree: Mapping[str, Any], place: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields every mapping that has arrays in it, with its path."""
    arrays = {str(name): value for name, value in tree.items() if isinstance(value, np.ndarray)}
    if any(array.ndim for array in arrays.values()):
        yield place, arrays
    for name, value in tree.items():
        if isinstance(value, Mapping) and depth < DEEPEST and not str(name).startswith("optim"):
            yield from _maps(value, f"{place}.{name}" if place else str(name), depth + 1)


def _prefixes(arrays: Mapping[str, Any], wanted: Collection[str]) -> Iterator[tuple[str, int]]:
    """Yields each prefix of the network's names, with their number.

    With half of the names or fewer it is the prefix of another network.
    """
    probes = list(wanted)
    found = set()
    for probe in {*probes[:: max(1, len(probes) // 8)], *probes[-1:]}:
        for name in arrays:
            if name.endswith(probe) and (name == probe or name[-len(probe) - 1] in "./_:"):
                found.add(name[: -len(probe)])
    for prefix in sorted(found):
        count = sum(f"{prefix}{name}" in arrays for name in probes)
        if 2 * count > len(probes):
            yield prefix, count


def _slim_averages(
    arrays: dict[str, np.ndarray], parameters: Parameters
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns arrays of TF-Slim by the names of the network, of which each may have an average."""
    averages = {
        name.removesuffix(SLIM_AVERAGE): array
        for name, array in arrays.items()
        if name.endswith(SLIM_AVERAGE)
    }
    own = {name: array for name, array in arrays.items() if not name.endswith(SLIM_AVERAGE)}
    averages = {name: array for name, array in averages.items() if name in own}
    if not averages:
        return own, []
    if parameters == "raw":
        return own, [
            f"it holds raw arrays and {len(averages)} moving averages of them: the raw ones are "
            "taken"
        ]
    return own | averages, [
        f"it holds raw arrays and {len(averages)} moving averages of them: the averages are taken"
    ]


def format_some(names: Sequence[Any], most: int = MAX_LISTED_PLACES) -> str:
    """Returns the first names of a list, and the number of others: `a, b, ... (3 more)`."""
    shown = [str(name)[:60] for name in names[:most]]
    return ", ".join(shown) + (f", ... ({len(names) - most} more)" if len(names) > most else "")
