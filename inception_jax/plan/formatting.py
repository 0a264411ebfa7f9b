"""What was found of a compiled program, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

RESOURCES = {"mxu": "matrix units", "hbm": "memory", "ici": "interconnect"}


def format_result(answer: Mapping[str, Any]) -> Iterator[str]:
    """Lines of text about an answer of `compiled`; one of `facts` has none."""
    if "fits" not in answer:
        return
    asked, planned = answer["requested_batch_size"], answer["batch_size"]
    if asked != planned:
        yield f"batch_size {asked:,} cannot be split over {answer['devices']:,} devices: planned is {planned:,}, the next that can"
    yield (
        f"compiled for {format_place(answer)}, {answer['chips']:,} x {answer['device_kind']}, "
        f"in {answer['compile_seconds']:.0f} s: {answer['images_per_chip']:,} images a chip, {answer['batch_size']:,} in all"
    )
    yield format_batch_norm(answer)
    yield format_memory(answer)
    if answer["memory"]:
        yield f"all-reduces: {format_traffic(answer)}"
        yield f"a chip in a step: {answer['flops_per_chip']:.4g} operations, {format_bytes(answer['bytes_per_chip'])} to and from memory"
    if answer["roofline"]:
        seconds = ", ".join(
            f"{RESOURCES[name]} {1e3 * value:.2f} ms" for name, value in answer["roofline"].items()
        )
        yield f"at published peaks that takes: {seconds}"
        rate = answer["images_per_second_upper_bound"]
        yield (
            f"at most {rate:,.0f} images/s, {rate / answer['chips']:,.0f} a chip, bound by {RESOURCES[answer['bound']]}: {answer['note']}"
        )


def format_attempt(answer: Mapping[str, Any]) -> str:
    """A line about one of several attempts."""
    return f"{answer['images_per_chip']:,} images a chip: {format_memory(answer)} ({answer['compile_seconds']:.0f} s)"


def format_place(answer: Mapping[str, Any]) -> str:
    where = answer["topology"] if answer["topology"] != "local" else "this machine"
    return f"{answer['slices']} slices of {where}" if answer["slices"] > 1 else where


def format_batch_norm(answer: Mapping[str, Any]) -> str:
    """How batches fall into groups, and what that costs."""
    layers, number, examples, devices = (
        answer[key] for key in ("norm_layers", "groups", "examples_per_group", "devices_per_group")
    )
    if not layers:
        return "statistics of the batch: none are taken"
    head = f"statistics of {number:,} group{'s' * (number > 1)} of {examples:,} in each of {layers} layers"
    if devices == 1:
        return f"{head}, each on one device: nothing is told for them but their mean"
    return f"{head}, each over {devices:,} devices: every layer waits for its moments, forward and backward"


def format_memory(answer: Mapping[str, Any]) -> str:
    used, limit = answer["memory_bytes"], answer["memory_limit_bytes"]
    if not limit:
        return f"memory: {format_bytes(used)} a chip, which has nobody knows how much"
    return f"memory: {format_bytes(used) if used else 'more'} of {format_bytes(limit)} a chip: {'it fits' if answer['fits'] else 'it does not fit'}"


def format_traffic(answer: Mapping[str, Any]) -> str:
    if not answer["all_reduces"]:
        return "none"
    parts = ", ".join(
        f"{format_bytes(count)} of {dtype}" for dtype, count in answer["all_reduce_dtypes"].items()
    )
    others = "".join(
        f"; {answer[name]} {name.replace('_', '-')}, {format_bytes(answer[name[:-1] + '_bytes'])}"
        for name in ("reduce_scatters", "all_gathers")
        if answer[name]
    )
    slices = answer["between_slices"]
    far = (
        f"; {slices} transfers between slices, {format_bytes(answer['between_slices_bytes'])}, whose time is not in what follows"
        if slices
        else ""
    )
    return f"{answer['all_reduces']}, {parts}{others}{far}"


def format_bytes(count: float) -> str:
    """`9.12 GiB`."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count:.0f} B"
