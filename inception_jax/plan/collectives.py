"""The communication between devices in a step, parsed from the text of a compiled program."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod
from typing import NamedTuple

DTYPES = {
    "pred": "bool", "bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64",
    "c64": "complex64", "c128": "complex128",
    **{f"s{bits}": f"int{bits}" for bits in (4, 8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (4, 8, 16, 32, 64)},
}  # fmt: skip
"""XLA's name of a dtype -> NumPy's name."""

# A long tuple is numbered: `(f32[8]{0}, /*index=5*/f32[3]{0})`.
_COLLECTIVE = re.compile(
    r"^\s*(?:ROOT )?%?[\w.-]+ = (?P<shape>(?:[^%=]|/\*index=\d+\*/)*?) "
    r"(?P<operation>all-reduce|reduce-scatter|all-gather|send)(?P<start>-start)?\((?P<rest>.*)"
)
_ARRAY = re.compile(r"\b(?P<dtype>pred|[subfc]+\d+\w*)\[(?P<sides>[\d,]*)\]")
# Groups are written as numbers; as nothing for all devices; or, from XLA of jaxlib 0.12 on, as axes
# of a mesh: `mesh['data'=4,'model'=2] {'data'}`, with a part of an axis as `'data':(1)2`.
_GROUPS = re.compile(
    r"replica_groups=(?:\[\d+,(?P<size>\d+)\]<=|\{\{(?P<first>\d[\d,]*)\}|(?P<all>\{\})"
    r"|mesh\[(?P<mesh>[^\]]*)\][^{]*\{(?P<axes>[^}]*)\})"
)
_DEVICES = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")
_MESH_AXIS = re.compile(r"'(?P<name>[^']*)'=(?P<size>\d+)")
_AXIS = re.compile(r"'(?P<name>[^']*)'(?::\(\d+\)(?P<part>\d+))?")
_BETWEEN_SLICES = re.compile(r'_xla_megascale_transfer_type="(?P<kind>\w+)"')


class Collective(NamedTuple):
    """One collective operation.

    Attributes:
      operation: `all-reduce`, `reduce-scatter`, `all-gather`; or `send`, to another slice over the
        data centre's network.
      bytes_by_dtype: The bytes of the whole array: before it is scattered, or after it is gathered.
    """

    operation: str
    bytes_by_dtype: Counter[str]


def parse_collectives(text: str) -> Iterator[Collective]:
    """Yields each collective in the text of a compiled program once.

    An asynchronous one is yielded where it starts.

    Raises:
      ValueError: Groups of devices have an unknown form; XLA has changed the form before.
    """
    lines = text.splitlines()
    headers = [line for line in lines if line.startswith("HloModule")]
    num_devices = prod(int(count) for line in headers for count in _DEVICES.findall(line))
    for line in lines:
        match = _COLLECTIVE.match(line)
        if not match:
            continue
        operation, shape, rest = match["operation"], match["shape"], match["rest"]
        if operation == "send" and not _BETWEEN_SLICES.search(rest):
            continue
        arrays = list(_ARRAY.finditer(shape))
        if operation == "send":
            arrays = arrays[:1]  # a context and a token follow
        elif operation == "all-gather" and match["start"]:
            arrays = arrays[len(arrays) // 2 :]  # the operands come first, then the results
        factor = _count_participants(rest, num_devices) if operation == "reduce-scatter" else 1
        sizes: Counter[str] = Counter()
        for array in arrays:
            sizes[DTYPES.get(array["dtype"], array["dtype"])] += factor * _count_bytes(array)
        yield Collective(operation, sizes)


class Traffic(NamedTuple):
    """The traffic of one kind of operation.

    Attributes:
      num_operations: The number of operations.
      bytes_by_dtype: The bytes of each dtype.
    """

    num_operations: int
    bytes_by_dtype: dict[str, int]

    @property
    def bytes(self) -> int:
        """Returns the bytes of all dtypes."""
        return sum(self.bytes_by_dtype.values())


def sum_traffic(collectives: Iterable[Collective], operation: str) -> Traffic:
    """Returns the traffic of all collectives of one `operation`."""
    sizes = [item.bytes_by_dtype for item in collectives if item.operation == operation]
    return Traffic(len(sizes), dict(sorted(sum(sizes, Counter[str]()).items())))


def _count_bytes(array: re.Match) -> int:
    digits = re.search(r"\d+", array["dtype"])
    bits = int(digits[0]) if digits else 8  # pred has none
    return -(-bits * prod(int(side) for side in array["sides"].split(",") if side) // 8)


def _count_participants(rest: str, num_devices: int) -> int:
    """Returns the number of devices in a group.

    Args:
      rest: The operands and attributes of the operation.
      num_devices: The number of devices of the program.
    """
    groups = _GROUPS.search(rest)
    try:
        if groups is None:
            raise KeyError("replica_groups")
        if groups["all"]:
            return num_devices
        if groups["size"]:
            return int(groups["size"])
        if groups["first"]:
            return len(groups["first"].split(","))
        sizes = {axis["name"]: axis["size"] for axis in _MESH_AXIS.finditer(groups["mesh"])}
        count = 1
        for text in groups["axes"].split(",") if groups["axes"].strip() else ():
            axis = _AXIS.fullmatch(text.strip())
            if axis is None:
                raise KeyError(text)
            count *= int(axis["part"] or sizes[axis["name"]])
        return count
    except KeyError as error:
        form = rest.partition("replica_groups=")[2][:80] or "none"
        raise ValueError(
            f"devices are grouped in a form that is not known here ({form}): the bytes between "
            "them cannot be counted"
        ) from error
