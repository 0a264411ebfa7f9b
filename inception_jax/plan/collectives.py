"""The communication between devices in a step, parsed from the text of a compiled program."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from inception_jax.plan.hlo import parse_shape

# A long tuple is numbered: `(f32[8]{0}, /*index=5*/f32[3]{0})`.
_COLLECTIVE = re.compile(
    r"^\s*(?:ROOT )?%?[\w.-]+ = (?P<shape>(?:[^%=]|/\*index=\d+\*/)*?) "
    r"(?P<operation>all-reduce|reduce-scatter|all-gather|send)(?P<start>-start)?\((?P<rest>.*)"
)
# Groups are written as lists; as a grid that is cut into rows; as nothing for all devices; or as
# axes of a mesh: `mesh['data'=4,'model'=2] {'data'}`, with a part of an axis as `'data':(1)2`: the
# size of what is before the part, and its own.
_GROUPS = re.compile(
    r"replica_groups=(?:\[(?P<rows>\d+),(?P<size>\d+)\]<=\[(?P<grid>[\d,]+)\]"
    r"(?:T\((?P<order>[\d,]+)\))?"
    r"|\{(?P<lists>\{\d[\d,]*\}(?:,\{[\d,]*\})*)\}|(?P<all>\{\})"
    r"|mesh\[(?P<mesh>[^\]]*)\](?P<devices>[^{]*)\{(?P<axes>[^}]*)\})"
)
_DEVICES = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")
_MESH_AXIS = re.compile(r"'(?P<name>[^']*)'=(?P<size>\d+)")
_AXIS = re.compile(r"'(?P<name>[^']*)'(?::\((?P<before>\d+)\)(?P<part>\d+))?")
_BETWEEN_SLICES = re.compile(r'_xla_megascale_transfer_type="(?P<kind>\w+)"')


class Collective(NamedTuple):
    """One collective operation.

    Attributes:
      operation: `all-reduce`, `reduce-scatter`, `all-gather`; or `send`, to another slice over the
        data centre's network.
      bytes_by_dtype: The bytes of the whole array: before it is scattered, or after it is gathered.
      attributes: The operands and attributes of the operation, as text.
      num_devices: The number of devices of the program.
    """

    operation: str
    bytes_by_dtype: Counter[str]
    attributes: str
    num_devices: int

    @property
    def bytes(self) -> int:
        """Returns the bytes of all dtypes."""
        return sum(self.bytes_by_dtype.values())


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
        arrays = parse_shape(shape)
        if operation == "send":
            arrays = arrays[:1]  # a context and a token follow
        elif operation != "all-reduce" and match["start"]:
            arrays = arrays[len(arrays) // 2 :]  # the operands come first, then the results
        is_part = operation == "reduce-scatter"
        factor = len(parse_groups(rest, num_devices, in_order=False)[0]) if is_part else 1
        sizes: Counter[str] = Counter()
        for array in arrays:
            sizes[array.dtype_name] += factor * array.bytes
        yield Collective(operation, sizes, rest, num_devices)


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


class HostTraffic(NamedTuple):
    """The traffic of one GPU in a step, within its host and between hosts.

    Attributes:
      sent_within_host: Bytes that a GPU sends to others of its host.
      sent_between_hosts: Bytes that a GPU sends to other hosts, if the GPUs of a host share them.
      between_hosts: The number of collectives between hosts.
      between_hosts_bytes: The bytes of their arrays.
    """

    sent_within_host: float
    sent_between_hosts: float
    between_hosts: int
    between_hosts_bytes: int


def sum_host_traffic(collectives: Iterable[Collective], hosts: Sequence[int]) -> HostTraffic:
    """Returns what a GPU sends in a step.

    A reduction over n GPUs of a host sends (n - 1) / n of the bytes, and an all-reduce twice that:
    it is a reduce-scatter and an all-gather. Between hosts each GPU sends its n-th part so. Sums
    that the switches compute are not considered.

    Args:
      collectives: The collectives of a program.
      hosts: The host of each device, in the order of the program's devices.

    Raises:
      ValueError: Groups of devices have an unknown form.
    """
    within = between = 0.0
    number = size = 0
    for item in collectives:
        if item.operation == "send":
            continue
        groups = parse_groups(item.attributes, item.num_devices)
        counts = [Counter(hosts[device] for device in group) for group in groups]
        num_hosts = max(len(count) for count in counts)
        gpus = max(max(count.values()) for count in counts)
        sent = item.bytes * (2 if item.operation == "all-reduce" else 1)
        within += sent * (gpus - 1) / gpus
        between += sent / gpus * (num_hosts - 1) / num_hosts
        number += num_hosts > 1
        size += item.bytes * (num_hosts > 1)
    return HostTraffic(within, between, number, size)


def parse_groups(attributes: str, num_devices: int, *, in_order: bool = True) -> list[list[int]]:
    """Returns the groups of devices of a collective; those that each sums or gathers over.

    Args:
      attributes: The operands and attributes of the operation.
      num_devices: The number of devices of the program.
      in_order: Whether a mesh whose devices are in another order is an error. Otherwise the sizes
        of its groups are right, and their devices are not.

    Raises:
      ValueError: The groups have an unknown form, or there are none.
    """
    groups = _GROUPS.search(attributes)
    try:
        if groups is None:
            raise KeyError("replica_groups")
        if groups["all"]:
            return [list(range(num_devices))]
        if groups["lists"]:
            lists = re.findall(r"\{([\d,]*)\}", groups["lists"])
            return [_parse_numbers(text) for text in lists]
        if groups["size"]:
            grid = _parse_numbers(groups["grid"])
            order = _parse_numbers(groups["order"]) if groups["order"] else range(len(grid))
            devices = np.arange(prod(grid)).reshape(grid).transpose(order)
            return devices.reshape(-1, int(groups["size"])).tolist()
        if in_order and groups["devices"].strip():
            raise KeyError(groups["devices"])
        return _parse_mesh_groups(groups["mesh"], groups["axes"])
    except KeyError as error:
        form = attributes.partition("replica_groups=")[2][:80] or "none"
        raise ValueError(
            f"devices are grouped in a form that is not known here ({form}): the bytes between "
            "them cannot be counted"
        ) from error


def _parse_mesh_groups(mesh: str, axes: str) -> list[list[int]]:
    """Returns the groups over some axes of a mesh, whose devices are in order.

    Raises:
      KeyError: An axis is unknown, or written in an unknown form.
    """
    sizes = {axis["name"]: int(axis["size"]) for axis in _MESH_AXIS.finditer(mesh)}
    # Each axis is split into three: what is before the part, the part, and what is after it.
    sides = {name: (size, 1, 1) for name, size in sizes.items()}
    for text in axes.split(",") if axes.strip() else ():
        axis = _AXIS.fullmatch(text.strip())
        if axis is None or sides[axis["name"]] != (sizes[axis["name"]], 1, 1):
            raise KeyError(text)
        size, before = sizes[axis["name"]], int(axis["before"] or 1)
        part = int(axis["part"] or size)
        sides[axis["name"]] = (before, part, size // (before * part))
    shape = [side for three in sides.values() for side in three]
    grouped = [3 * i + 1 for i in range(len(sides))]
    others = [i for i in range(len(shape)) if i not in grouped]
    devices = np.arange(prod(shape)).reshape(shape).transpose(*others, *grouped)
    return devices.reshape(-1, prod(shape[i] for i in grouped)).tolist()


def _parse_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]
