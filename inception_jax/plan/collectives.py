"""What the devices tell each other in a step, read off the text of a compiled program."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod
from typing import NamedTuple

DTYPES = {
    "pred": "bool", "bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64", "c64": "complex64", "c128": "complex128",
    **{f"s{bits}": f"int{bits}" for bits in (4, 8, 16, 32, 64)}, **{f"u{bits}": f"uint{bits}" for bits in (4, 8, 16, 32, 64)},
}  # fmt: skip
"""XLA's names, and NumPy's."""

# A long tuple is numbered: `(f32[8]{0}, /*index=5*/f32[3]{0})`.
_COLLECTIVE = re.compile(
    r"^\s*(?:ROOT )?%?[\w.-]+ = (?P<shape>(?:[^%=]|/\*index=\d+\*/)*?) "
    r"(?P<operation>all-reduce|reduce-scatter|all-gather|send)(?P<start>-start)?\((?P<rest>.*)"
)
_ARRAY = re.compile(r"\b(?P<dtype>pred|[subfc]+\d+\w*)\[(?P<sides>[\d,]*)\]")
# As numbers, as none for all devices, or, from XLA of jaxlib 0.12 on, as axes of a mesh: `mesh['data'=4,'model'=2] {'data'}`, a part of an
# axis as `'data':(1)2`.
_GROUPS = re.compile(
    r"replica_groups=(?:\[\d+,(?P<size>\d+)\]<=|\{\{(?P<first>\d[\d,]*)\}|(?P<all>\{\})|mesh\[(?P<mesh>[^\]]*)\][^{]*\{(?P<axes>[^}]*)\})"
)
_DEVICES = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")
_MESH_AXIS = re.compile(r"'(?P<name>[^']*)'=(?P<size>\d+)")
_AXIS = re.compile(r"'(?P<name>[^']*)'(?::\(\d+\)(?P<part>\d+))?")
_BETWEEN_SLICES = re.compile(r'_xla_megascale_transfer_type="(?P<kind>\w+)"')


class Collective(NamedTuple):
    """One operation in which devices take part.

    Attributes:
      operation: all-reduce, reduce-scatter, all-gather; or `send`, to another slice over the data centre's network.
      bytes_by_dtype: of the whole array, as it is before it is scattered, or after it is gathered.
    """

    operation: str
    bytes_by_dtype: Counter[str]


def parse_collectives(text: str) -> Iterator[Collective]:
    """Yields those in the text of a compiled program, each once; one that is started and awaited is found where it starts.

    Raises:
      ValueError: groups of devices in a form that is not known here; XLA has changed it before.
    """
    lines = text.splitlines()
    devices = prod(
        int(count)
        for line in lines
        if line.startswith("HloModule")
        for count in _DEVICES.findall(line)
    )
    for line in lines:
        found = _COLLECTIVE.match(line)
        if not found:
            continue
        operation, shape, rest = found["operation"], found["shape"], found["rest"]
        if operation == "send" and not _BETWEEN_SLICES.search(rest):
            continue
        arrays = list(_ARRAY.finditer(shape))
        if operation == "send":
            arrays = arrays[:1]  # then follow a context and a token
        elif operation == "all-gather" and found["start"]:
            arrays = arrays[len(arrays) // 2 :]  # what goes in, and then what comes out
        times = _participants(rest, devices) if operation == "reduce-scatter" else 1
        sizes: Counter[str] = Counter()
        for array in arrays:
            sizes[DTYPES.get(array["dtype"], array["dtype"])] += times * _bytes(array)
        yield Collective(operation, sizes)


class Traffic(NamedTuple):
    """Of one kind of operation: how many, and how many bytes of each dtype."""

    number: int
    bytes_by_dtype: dict[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.bytes_by_dtype.values())


def sum_traffic(found: Iterable[Collective], operation: str) -> Traffic:
    sizes = [one.bytes_by_dtype for one in found if one.operation == operation]
    return Traffic(len(sizes), dict(sorted(sum(sizes, Counter[str]()).items())))


def _bytes(array: re.Match) -> int:
    bits = 8 if array["dtype"] == "pred" else int(re.search(r"\d+", array["dtype"])[0])  # type: ignore[index]
    return -(-bits * prod(int(side) for side in array["sides"].split(",") if side) // 8)


def _participants(rest: str, devices: int) -> int:
    """Returns how many devices are in a group, of the operation whose operands and attributes are `rest`."""
    found = _GROUPS.search(rest)
    try:
        if found is None:
            raise KeyError("replica_groups")
        if found["all"]:
            return devices
        if found["mesh"] is None:
            return int(found["size"]) if found["size"] else len(found["first"].split(","))
        sizes = {axis["name"]: axis["size"] for axis in _MESH_AXIS.finditer(found["mesh"])}
        count = 1
        for axis in found["axes"].split(",") if found["axes"].strip() else ():
            known = _AXIS.fullmatch(axis.strip())
            if known is None:
                raise KeyError(axis)
            count *= int(known["part"] or sizes[known["name"]])
        return count
    except KeyError as error:
        form = rest.partition("replica_groups=")[2][:80] or "none"
        raise ValueError(
            f"devices are grouped in a form that is not known here ({form}): the bytes between them cannot be counted"
        ) from error
