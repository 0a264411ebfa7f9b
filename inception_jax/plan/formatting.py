"""The text of a plan."""

from collections.abc import Iterator, Mapping
from typing import Any

RESOURCES = {
    "mxu": "matrix units", "hbm": "memory", "ici": "interconnect",
    "compute": "tensor cores", "memory": "memory", "interconnect": "interconnect of a host",
    "between_hosts": "network between hosts",
}  # fmt: skip
"""Resource of a roofline -> its name in a text: those of a TPU, and those of a GPU."""


def format_result(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yields lines of text about an answer of `compile_train_step`; none for `collect_facts`."""
    if "fits" not in answer:
        return
    requested, planned = answer["requested_batch_size"], answer["batch_size"]
    devices, chips = answer["devices"], answer["chips"]
    if requested != planned:
        yield (
            f"batch_size {requested:,} cannot be split over {devices:,} devices: planned is "
            f"{planned:,}, the next that can"
        )
    chip = _name_chip(answer)
    yield (
        f"compiled for {format_target(answer)}, {chips:,} x {answer['device_kind']}, in "
        f"{answer['compile_seconds']:.0f} s: {answer['images_per_chip']:,} images a {chip}, "
        f"{planned:,} in all"
    )
    yield format_batch_norm(answer)
    yield format_memory(answer)
    if answer["memory"]:
        moved = format_bytes(answer["bytes_per_chip"])
        yield f"all-reduces: {format_traffic(answer)}"
        if answer.get("kernels"):
            yield from format_kernels(answer)
        else:
            yield (
                f"a chip in a step: {answer['flops_per_chip']:.4g} operations, "
                f"{moved} to and from memory"
            )
    if answer["roofline"]:
        times = answer["roofline"].items()
        seconds = ", ".join(f"{RESOURCES[name]} {1e3 * value:.2f} ms" for name, value in times)
        yield f"at published peaks that takes: {seconds}"
        rate = answer["images_per_second_upper_bound"]
        yield (
            f"at most {rate:,.0f} images/s, {rate / chips:,.0f} a {chip}, bound by "
            f"{RESOURCES[answer['bound']]}: {answer['note']}"
        )


def format_kernels(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yields lines of text about the kernels of a program for GPUs, and their bytes."""
    number = answer["kernels"]
    loops = answer["unknown_loops"]
    head = f" ({loops} loops of unknown length count once)" if loops else ""
    yield (
        f"a GPU in a step: {answer['flops_per_chip']:.4g} operations by the network's table, "
        f"{format_bytes(answer['bytes_per_chip'])} to and from memory in {number:,} kernels{head}; "
        f"{format_bytes(answer['bytes_counted'])} if slices are read in full"
    )
    if answer["gathers_images"]:
        multiple = answer["examples_per_group"] * answer["devices"]
        yield (
            "norm groups cross the border between GPUs, and images are gathered: each GPU computes "
            "more than its own, which these operations leave out; a batch_size that is a multiple "
            f"of {multiple:,} avoids it"
        )
    kinds = [
        f"{kind.replace('_', ' ')} {format_bytes(size)} in {answer['kernels_by_kind'][kind]:,}"
        for kind, size in answer["bytes_by_kind"].items()
    ]
    yield f"of these bytes, by kind of kernel: {', '.join(kinds)}"
    launches = answer["launch_seconds"]
    yield (
        f"launching {number:,} kernels takes about {1e3 * launches:.1f} ms more, at "
        f"{1e6 * launches / number:.1f} us each, unless command buffers (CUDA graphs) or overlap "
        "hide it: it is not in the bound below"
    )


def _name_chip(answer: Mapping[str, Any]) -> str:
    return "GPU" if answer.get("platform") == "gpu" else "chip"


def format_attempt(answer: Mapping[str, Any]) -> str:
    """Returns a line about one of several attempts to find the largest batch."""
    return (
        f"{answer['images_per_chip']:,} images a {_name_chip(answer)}: {format_memory(answer)} "
        f"({answer['compile_seconds']:.0f} s)"
    )


def format_target(answer: Mapping[str, Any]) -> str:
    """Returns the name of the devices that a program was compiled for."""
    target = answer["topology"] if answer["topology"] != "local" else "this machine"
    return f"{answer['slices']} slices of {target}" if answer["slices"] > 1 else target


def format_batch_norm(answer: Mapping[str, Any]) -> str:
    """Returns how batches are split into norm groups, and what these communicate."""
    if not (layers := answer["norm_layers"]):
        return "statistics of the batch: none are taken"
    number, devices = answer["groups"], answer["devices_per_group"]
    head = (
        f"statistics of {number:,} group{'s' * (number > 1)} of {answer['examples_per_group']:,} "
        f"in each of {layers} layers"
    )
    if devices == 1:
        return f"{head}, each on one device: only their mean is communicated"
    return (
        f"{head}, each over {devices:,} devices: every layer waits for its moments, forward and "
        "backward"
    )


def format_memory(answer: Mapping[str, Any]) -> str:
    """Returns the memory of a chip that a program needs, and whether it fits."""
    used, limit = answer["memory_bytes"], answer["memory_limit_bytes"]
    chip, fraction = _name_chip(answer), answer.get("memory_fraction")
    if not limit:
        return f"memory: {format_bytes(used)} a {chip}, of an unknown amount"
    needed = format_bytes(used) if used else "more"
    verdict = "it fits" if answer["fits"] else "it does not fit"
    part = f" (the {fraction:.0%} of its memory that JAX takes)" if fraction else ""
    return f"memory: {needed} of {format_bytes(limit)} a {chip}{part}: {verdict}"


def format_traffic(answer: Mapping[str, Any]) -> str:
    """Returns the collectives of a step, by kind, with their bytes."""
    if not answer["all_reduces"]:
        return "none"
    dtypes = answer["all_reduce_dtypes"].items()
    sizes = ", ".join(f"{format_bytes(count)} of {dtype}" for dtype, count in dtypes)
    text = f"{answer['all_reduces']}, {sizes}"
    for name in ("reduce_scatters", "all_gathers"):
        if count := answer[name]:
            size = format_bytes(answer[name[:-1] + "_bytes"])
            text += f"; {count} {name.replace('_', '-')}, {size}"
    if count := answer["between_slices"]:
        size = format_bytes(answer["between_slices_bytes"])
        text += f"; {count} transfers between slices, {size}, whose time is not in what follows"
    if count := answer.get("between_hosts"):
        size = format_bytes(answer["between_hosts_bytes"])
        text += f"; {count} of these between hosts, {size}"
        if "between_hosts" not in (answer["roofline"] or {}):
            text += ", whose time is not in what follows: the network of such hosts is not known"
    return text


def format_bytes(count: float) -> str:
    """Returns a number of bytes as text: `9.12 GiB`."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count:.0f} B"
