"""The text of a compiled program: its computations, instructions, shapes and dtypes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

DTYPES = {
    "pred": "bool", "bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64",
    "c64": "complex64", "c128": "complex128",
    **{f"s{bits}": f"int{bits}" for bits in (4, 8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (4, 8, 16, 32, 64)},
}  # fmt: skip
"""XLA's name of a dtype -> NumPy's name."""

# Tokens and opaque values have no bytes. A dynamic side is written as its bound: `<=5`.
_ARRAY = re.compile(r"\b(?P<dtype>pred|[subfc]+\d+\w*)\[(?P<sides>[\d,<=]*)\]")
_NAME = r"[\w.\-]+"
_HEADER = re.compile(rf"(?P<entry>ENTRY )?%?(?P<name>{_NAME}) .*\{{\s*$")
_INSTRUCTION = re.compile(rf"\s+(?P<root>ROOT )?%?(?P<name>{_NAME}) = (?P<rest>.*)")
_OPCODE = re.compile(r" ?(?P<opcode>[\w\-]+)\(")
_REFERENCE = re.compile(rf"%({_NAME})")
_PARENTHESIS = re.compile(r"[()]")


class Array(NamedTuple):
    """One array of a shape.

    Attributes:
      dtype: XLA's name of its dtype.
      sides: Its sides; none for a scalar.
    """

    dtype: str
    sides: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Returns the bytes of the array; dtypes of less than 8 bits are packed."""
        digits = re.search(r"\d+", self.dtype)
        bits = int(digits[0]) if digits else 8  # pred has none
        return -(-bits * prod(self.sides) // 8)

    @property
    def dtype_name(self) -> str:
        """Returns NumPy's name of the dtype, or XLA's where NumPy has none."""
        return DTYPES.get(self.dtype, self.dtype)


def parse_shape(shape: str) -> list[Array]:
    """Returns the arrays of a shape, also those of nested tuples: `(f32[8]{0}, (s32[]))`."""
    return [
        Array(match["dtype"], tuple(int(side.strip("<=")) for side in match["sides"].split(",")))
        if match["sides"]
        else Array(match["dtype"], ())
        for match in _ARRAY.finditer(shape)
    ]


@lru_cache(maxsize=4096)
def count_shape_bytes(shape: str) -> int:
    """Returns the bytes of all arrays of a shape."""
    return sum(array.bytes for array in parse_shape(shape))


class Instruction(NamedTuple):
    """One instruction of a computation.

    Attributes:
      name: Its name, without the percent sign.
      shape: The text of the shape of its result.
      opcode: The operation, such as `fusion`.
      operands: The names of its operands.
      arguments: The text between the parentheses: the operands, or the number of a parameter.
      attributes: The text after them.
      is_root: Whether its result is that of the computation.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """Returns the bytes of the result."""
        return count_shape_bytes(self.shape)

    def find_computations(self, attribute: str) -> list[str]:
        """Returns the names of the computations of an attribute: `calls=%a`, `...={%a, %b}`."""
        match = re.search(rf"\b{attribute}=(?:\{{([^}}]*)\}}|%?({_NAME}))", self.attributes)
        if not match:
            return []
        return _REFERENCE.findall(match[1]) if match[1] is not None else [match[2]]


class HloProgram(NamedTuple):
    """A compiled program.

    Attributes:
      computations: Name of a computation -> its instructions, in order.
      entry: The name of the computation that is run.
    """

    computations: Mapping[str, Sequence[Instruction]]
    entry: str


def parse_program(text: str) -> HloProgram:
    """Returns the computations of the text of a compiled program.

    Raises:
      ValueError: The text has no entry computation.
    """
    computations: dict[str, list[Instruction]] = {}
    entry = None
    current: list[Instruction] | None = None
    for line in text.splitlines():
        if line[:1] in ("%", "E") and (header := _HEADER.match(line)):
            current = computations.setdefault(header["name"], [])
            entry = header["name"] if header["entry"] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (instruction := _parse_instruction(line)):
            current.append(instruction)
    if entry is None:
        raise ValueError("the text of the program has no entry computation")
    return HloProgram(computations, entry)


def _parse_instruction(line: str) -> Instruction | None:
    match = _INSTRUCTION.match(line)
    if not match:
        return None
    rest = match["rest"]
    end = _find_closing(rest, 1) + 1 if rest.startswith("(") else rest.find(" ")
    opcode = _OPCODE.match(rest, max(end, 0))
    if not opcode:
        return None
    closing = _find_closing(rest, opcode.end())
    arguments = rest[opcode.end() : closing]
    return Instruction(
        name=match["name"],
        shape=rest[:end],
        opcode=opcode["opcode"],
        operands=tuple(_REFERENCE.findall(arguments)),
        arguments=arguments,
        attributes=rest[closing + 1 :],
        is_root=bool(match["root"]),
    )


def _find_closing(text: str, start: int) -> int:
    """Returns the place of the parenthesis that closes the one before `start`, or the end."""
    depth = 1
    for match in _PARENTHESIS.finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return match.start()
    return len(text)


def list_users(instructions: Sequence[Instruction]) -> dict[str, list[Instruction]]:
    """Returns name -> the instructions that have it as an operand, each once."""
    users: dict[str, list[Instruction]] = {}
    for instruction in instructions:
        for name in dict.fromkeys(instruction.operands):
            users.setdefault(name, []).append(instruction)
    return users


def iterate_instructions(program: HloProgram) -> Iterator[Instruction]:
    """Yields the instructions of all computations."""
    for instructions in program.computations.values():
        yield from instructions
