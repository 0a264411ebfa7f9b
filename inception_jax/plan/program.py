"""The kernels of a compiled program and the bytes that each moves, counted in its text.

XLA's own count, `cost_analysis`, is missing from programs for a GPU that is not present.

Each instruction that is run counts as a kernel. Its bytes are those of its operands and results, as
if nothing stayed in a cache. The refined bytes count an operand that is read only through slices as
those slices, and an update in place as the update. Both leave out the workspaces of libraries.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inception_jax.plan.hlo import (
    HloProgram,
    Instruction,
    iterate_instructions,
    list_users,
    parse_shape,
)

LAUNCH_SECONDS = 2.5e-6
"""An assumed time to launch a kernel on a GPU, outside a command buffer (CUDA graph)."""
FREE_OPCODES = frozenset(
    {
        "parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all",
        "add-dependency", "opt-barrier", "partition-id", "replica-id",
    }
)  # fmt: skip
"""Instructions that move no bytes."""
KERNEL_KINDS = (
    "convolution", "input_gradient", "kernel_gradient", "matrix_product", "reduction", "pooling",
    "scatter", "elementwise", "copy", "collective", "other",
)  # fmt: skip
"""Kinds of kernels. `input_gradient` and `kernel_gradient` are convolutions of the backward pass;
a `copy` only moves, converts or transposes."""

_COLLECTIVES = frozenset(
    {
        "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all",
        "collective-permute", "collective-broadcast", "send", "recv",
    }
)  # fmt: skip
_MOVES = FREE_OPCODES | {
    "copy", "transpose", "reshape", "convert", "slice", "dynamic-slice", "dynamic-update-slice",
    "pad", "concatenate", "broadcast", "iota", "reverse", "bitcast-convert",
}  # fmt: skip
_KINDS_BY_OPCODE = {
    "dot": "matrix_product",
    "ragged-dot": "matrix_product",
    "scaled-dot": "matrix_product",
    "convolution": "convolution",
    "scatter": "scatter",
    "select-and-scatter": "pooling",
    "reduce-window": "pooling",
    "reduce": "reduction",
}
"""Opcode within a fusion, or alone -> kind. The first that a fusion has decides."""
_KINDS_BY_TARGET = (
    ("convBackwardFilter", "kernel_gradient"),
    ("convBackwardInput", "input_gradient"),
    ("conv", "convolution"),
    ("gemm", "matrix_product"),
    ("matmul", "matrix_product"),
    ("dot", "matrix_product"),
)
"""Part of the target of a custom call -> kind; the first that matches decides."""
_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_PARTIAL_READS = frozenset({"slice", "dynamic-slice", "gather"})
_REINTERPRETATIONS = frozenset({"bitcast", "convert", "copy", "reshape"})


class Kernel(NamedTuple):
    """One instruction that is run.

    Attributes:
      name: The name of the instruction.
      kind: One of `KERNEL_KINDS`.
      key: Its opcode, the target of a custom call, or `fusion:` and the name without its number.
      full_bytes: Bytes of operands and results.
      refined_bytes: The same, with slices and updates in place counted as such.
      runs: The number of times that it is run: more than 1 within a loop.
      op_name: JAX's name of the operation; empty if there is none.
    """

    name: str
    kind: str
    key: str
    full_bytes: int
    refined_bytes: int
    runs: int
    op_name: str


class ProgramCount(NamedTuple):
    """The kernels and bytes of a program in one run.

    Attributes:
      kernels: The number of kernels that are run.
      full_bytes: Bytes of their operands and results.
      refined_bytes: The same, with slices and updates in place counted as such.
      bytes_by_kind: Kind -> refined bytes, largest first.
      kernels_by_kind: Kind -> number of kernels, in the same order.
      unknown_loops: The number of loops whose length is not in the text. Their bodies count once.
    """

    kernels: int
    full_bytes: int
    refined_bytes: int
    bytes_by_kind: dict[str, int]
    kernels_by_kind: dict[str, int]
    unknown_loops: int


def count_program(program: HloProgram) -> ProgramCount:
    """Returns the kernels and bytes of a program in one run."""
    kernels = list_kernels(program)
    sizes, numbers = Counter[str](), Counter[str]()
    for kernel in kernels:
        sizes[kernel.kind] += kernel.runs * kernel.refined_bytes
        numbers[kernel.kind] += kernel.runs
    order = sorted(numbers, key=lambda kind: (-sizes[kind], KERNEL_KINDS.index(kind)))
    return ProgramCount(
        kernels=sum(kernel.runs for kernel in kernels),
        full_bytes=sum(kernel.runs * kernel.full_bytes for kernel in kernels),
        refined_bytes=sum(kernel.runs * kernel.refined_bytes for kernel in kernels),
        bytes_by_kind={kind: sizes[kind] for kind in order},
        kernels_by_kind={kind: numbers[kind] for kind in order},
        unknown_loops=sum(
            instruction.opcode == "while" and not _TRIP_COUNT.search(instruction.attributes)
            for instruction in iterate_instructions(program)
        ),
    )


def list_kernels(program: HloProgram) -> list[Kernel]:
    """Returns the kernels of a program, in the order of its text.

    The body of a loop counts as often as it is run, or once where its length is unknown; then its
    condition counts once too. Of the branches of a conditional the one with the most bytes counts.
    What is called, a command buffer for instance, counts instead of the call. Both halves of an
    asynchronous instruction count as one kernel.
    """
    return list(_walk(program, program.entry, 1))


def _walk(program: HloProgram, computation: str, runs: int) -> Iterator[Kernel]:
    """Yields the kernels of a computation that is run so many times."""
    instructions = program.computations[computation]
    sizes = {instruction.name: instruction.bytes for instruction in instructions}
    # A result of a first half lists its operands too: that of the second half does not.
    for instruction in instructions:
        if instruction.opcode.endswith("-done") and instruction.operands:
            sizes[instruction.operands[0]] = instruction.bytes
    for instruction in instructions:
        opcode = instruction.opcode.removesuffix("-start")
        if opcode in FREE_OPCODES or opcode.endswith(("-done", "-update")):
            continue
        if opcode == "while":
            yield from _walk_loop(program, instruction, runs)
        elif opcode == "conditional":
            branches = [
                list(_walk(program, name, runs))
                for attribute in (
                    "branch_computations", "true_computation", "false_computation",
                )
                for name in instruction.find_computations(attribute)
            ]  # fmt: skip
            yield from max(branches, key=_sum_bytes, default=[])
        elif opcode in ("call", "async"):
            for attribute in ("to_apply", "calls"):
                for name in instruction.find_computations(attribute):
                    yield from _walk(program, name, runs)
        else:
            yield _make_kernel(program, instruction, opcode, sizes, runs)


def _walk_loop(program: HloProgram, loop: Instruction, runs: int) -> Iterator[Kernel]:
    length = _TRIP_COUNT.search(loop.attributes)
    names = loop.find_computations("body")
    if not length:
        names += loop.find_computations("condition")
    for name in names:
        yield from _walk(program, name, runs * (int(length[1]) if length else 1))


def _sum_bytes(kernels: Sequence[Kernel]) -> int:
    return sum(kernel.runs * kernel.refined_bytes for kernel in kernels)


def _make_kernel(
    program: HloProgram,
    instruction: Instruction,
    opcode: str,
    sizes: dict[str, int],
    runs: int,
) -> Kernel:
    """Returns the kernel of an instruction.

    Args:
      program: The program.
      instruction: The instruction.
      opcode: Its opcode, without that it is the first half of an asynchronous one.
      sizes: Name of an instruction of the same computation -> bytes of its result.
      runs: The number of times that it is run.
    """
    target = _TARGET.search(instruction.attributes)
    result = sizes[instruction.name]
    if target and (arrays := parse_shape(instruction.shape))[1:] and arrays[-1].dtype == "u8":
        result -= arrays[-1].bytes  # the workspace of a library
    operands = [sizes.get(name, 0) for name in instruction.operands]
    reads, written = list(operands), result
    opcodes = {opcode}
    if opcode == "fusion":
        fused = [
            inner
            for name in instruction.find_computations("calls")
            for inner in program.computations[name]
        ]
        opcodes = _list_opcodes(program, fused)
        bounds = _count_fusion_reads(fused)
        reads = [min(size, bounds.get(i, size)) for i, size in enumerate(operands)]
        written -= _count_unwritten(fused)
    elif opcode in _PARTIAL_READS:
        reads[0] = min(reads[0], result)
    elif opcode == "dynamic-update-slice":
        reads[0], written = 0, operands[1]
    op_name = _OP_NAME.search(instruction.attributes)
    return Kernel(
        name=instruction.name,
        kind=_find_kind(opcode, opcodes, target[1] if target else ""),
        key=_make_key(instruction.name, opcode, target[1] if target else ""),
        full_bytes=sum(operands) + result,
        refined_bytes=sum(reads) + written,
        runs=runs,
        op_name=op_name[1] if op_name else "",
    )


def _make_key(name: str, opcode: str, target: str) -> str:
    if opcode == "fusion":
        return "fusion:" + re.sub(r"[\d_.]+$", "", re.sub(r"\.\d+", "", name))
    return target if opcode == "custom-call" and target else opcode


def _find_kind(opcode: str, opcodes: set[str], target: str) -> str:
    """Returns one of `KERNEL_KINDS`.

    Args:
      opcode: The opcode of an instruction.
      opcodes: Those within it, where it is a fusion; otherwise the same one.
      target: The target of a custom call; empty otherwise.
    """
    if opcode in _COLLECTIVES:
        return "collective"
    if opcode == "custom-call":
        return next((kind for part, kind in _KINDS_BY_TARGET if part in target), "other")
    for inner, kind in _KINDS_BY_OPCODE.items():
        if inner in opcodes:
            return kind
    if opcodes <= _MOVES:
        return "copy"
    return "other" if opcode in ("sort", "fft", "rng", "infeed", "outfeed") else "elementwise"


def _list_opcodes(program: HloProgram, instructions: Sequence[Instruction]) -> set[str]:
    """Returns the opcodes of a fused computation, with those of fusions within it."""
    opcodes = {instruction.opcode for instruction in instructions}
    for instruction in instructions:
        if instruction.opcode == "fusion":
            for name in instruction.find_computations("calls"):
                opcodes |= _list_opcodes(program, program.computations[name])
    return opcodes - {"fusion"}


def _count_fusion_reads(fused: Sequence[Instruction]) -> dict[int, int]:
    """Returns the bytes that a fused computation reads of each parameter, by its number."""
    users = list_users(fused)
    updates = {update.name for update in _find_updates_in_place(fused)}

    def count(value: Instruction) -> int:
        """Returns the bytes that are read of a value of the fusion."""
        total = 0
        for user in users.get(value.name, ()):
            is_first = user.operands[0] == value.name
            if is_first and user.opcode in _PARTIAL_READS:
                total += user.bytes
            elif is_first and user.name in updates:
                continue
            elif user.opcode in _REINTERPRETATIONS and not user.is_root:
                total += count(user) * value.bytes // max(user.bytes, 1)
            else:
                return value.bytes
        return min(value.bytes, total)

    return {
        int(instruction.arguments): count(instruction)
        for instruction in fused
        if instruction.opcode == "parameter"
    }


def _count_unwritten(fused: Sequence[Instruction]) -> int:
    """Returns the bytes of a fusion's results that an update in place does not write."""
    sizes = {instruction.name: instruction.bytes for instruction in fused}
    return sum(
        max(update.bytes - sizes[update.operands[1]], 0) for update in _find_updates_in_place(fused)
    )


def _find_updates_in_place(fused: Sequence[Instruction]) -> list[Instruction]:
    """Returns each dynamic-update-slice of a parameter that is a result of the fusion.

    XLA computes these in place, without the rest of the array.
    """
    by_name = {instruction.name: instruction for instruction in fused}

    def skip_bitcasts(name: str) -> Instruction:
        while by_name[name].opcode == "bitcast":
            (name,) = by_name[name].operands
        return by_name[name]

    updates = []
    for root in (instruction for instruction in fused if instruction.is_root):
        names = root.operands if root.opcode == "tuple" else (root.name,)
        for result in map(skip_bitcasts, names):
            if (
                result.opcode == "dynamic-update-slice"
                and skip_bitcasts(result.operands[0]).opcode == "parameter"
            ):
                updates.append(result)
    return updates


class Violations(NamedTuple):
    """Instructions that a program in bfloat16 should not have.

    Attributes:
      float32_convolutions: Convolutions with a float32 image, kernel or cotangent.
      scatters: Scatters, the slow gradient of a max pool.
    """

    float32_convolutions: list[str]
    scatters: list[str]


def list_violations(program: HloProgram) -> Violations:
    """Returns the names of the instructions that a program in bfloat16 should not have.

    Each is followed by JAX's name of the operation, in parentheses.
    """
    convolutions, scatters = [], []
    for instructions in program.computations.values():
        shapes = {instruction.name: instruction.shape for instruction in instructions}
        for instruction in instructions:
            if instruction.opcode == "scatter":
                scatters.append(_format_location(instruction))
            elif _is_convolution(instruction) and any(
                array.dtype == "f32"
                for name in instruction.operands[:2]
                for array in parse_shape(shapes[name])
            ):
                convolutions.append(_format_location(instruction))
    return Violations(convolutions, scatters)


def _is_convolution(instruction: Instruction) -> bool:
    target = _TARGET.search(instruction.attributes)
    return instruction.opcode == "convolution" or (
        instruction.opcode == "custom-call" and bool(target) and "conv" in (target or "")[1]
    )


def _format_location(instruction: Instruction) -> str:
    op_name = _OP_NAME.search(instruction.attributes)
    return f"{instruction.name} ({op_name[1]})" if op_name else instruction.name
