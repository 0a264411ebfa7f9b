"""The papers' drawings, each as a table of one module, from which claims about its cost follow.

They are not networks and not in the registry; `measure` and `Network` take them like any other
table. Counts are those of the weights (no norm, no bias), as the papers count.
"""

from inception_jax.models import googlenet, inception_v3
from inception_jax.spec.vocabulary import Architecture, Steps, Unit, concat, conv, max_, same, valid

WEIGHTS = Unit(norm=False)


def make_drawing(name: str, source: str, grid: int, channels: int, steps: Steps) -> Architecture:
    """Returns a table of one module on a map of `grid` x `grid` x `channels`."""
    return Architecture(
        name, "drawing", (("Module", steps),), source, grid, WEIGHTS, channels=channels
    )


def square(size: int, filters: int = 64) -> Architecture:
    """Returns one convolution of size x size that keeps the number of channels."""
    return make_drawing(
        f"square_{size}x{size}", "arXiv:1512.00567, section 3", 35, filters, same(filters, size)
    )


def chain(size: int, filters: int = 64) -> Architecture:
    """Returns 3x3 convolutions in sequence with the receptive field of `square(size)`.

    Source: arXiv:1512.00567, figure 1.
    """
    return make_drawing(
        f"chain_{size}x{size}",
        "arXiv:1512.00567, figure 1",
        35,
        filters,
        (same(filters, 3),) * (size // 2),
    )


def asymmetric(size: int, filters: int = 64) -> Architecture:
    """Returns `square(size)` as 1 x size and size x 1 (arXiv:1512.00567, figure 3)."""
    steps = (same(filters, (1, size)), same(filters, (size, 1)))
    return make_drawing(
        f"asymmetric_{size}x{size}", "arXiv:1512.00567, figure 3", 35, filters, steps
    )


def naive_module() -> Architecture:
    """Returns arXiv:1409.4842, figure 2(a), with the filters of (3a)."""
    return make_drawing(
        "naive_module",
        "arXiv:1409.4842, figure 2(a)",
        28,
        192,
        googlenet.naive_module(64, (96, 128), (16, 32), 32),
    )


def reduced_module() -> Architecture:
    """Returns arXiv:1409.4842, figure 2(b), with the filters of (3a)."""
    return make_drawing(
        "reduced_module",
        "arXiv:1409.4842, figure 2(b)",
        28,
        192,
        googlenet.module(64, (96, 128), (16, 32), 32),
    )


def expanded_module() -> Architecture:
    """Returns 1x3 and 3x1 in parallel (arXiv:1512.00567, figure 7)."""
    return make_drawing(
        "expanded_module", "arXiv:1512.00567, figure 7", 8, 1280, inception_v3.mixed_8()
    )


def deeper_module() -> Architecture:
    """Returns 1x3 and 3x1 in sequence, which figure 7 avoids: 1,280 of 2,048 channels remain."""
    fork = (same(384, (1, 3)), same(384, (3, 1)))
    conv_1x1, expanded, double, pool = inception_v3.mixed_8().branches
    module = concat(conv_1x1, (expanded[0], fork), (*double[:2], fork), pool)  # type: ignore[index]
    return make_drawing("deeper_module", "arXiv:1512.00567, section 4", 8, 1280, module)


def pool_then_convolve() -> Architecture:
    """Returns arXiv:1512.00567, figure 9, left: cheap, with a bottleneck of 17x17x320."""
    return make_drawing(
        "pool_then_convolve",
        "arXiv:1512.00567, figure 9",
        35,
        320,
        (max_(3, 2, "valid"), conv(640, 1)),
    )


def convolve_then_pool() -> Architecture:
    """Returns arXiv:1512.00567, figure 9, right: no bottleneck, all work on the larger grid."""
    return make_drawing(
        "convolve_then_pool",
        "arXiv:1512.00567, figure 9",
        35,
        320,
        (conv(640, 1), max_(3, 2, "valid")),
    )


def reduce_in_parallel() -> Architecture:
    """Returns arXiv:1512.00567, figure 10, from 35x35x320 to 17x17x640."""
    convolutions = concat(
        valid(160, 3, 2), (same(64, 1), same(96, 3), valid(160, 3, 2)), max_(3, 2, "valid")
    )
    return make_drawing("reduce_in_parallel", "arXiv:1512.00567, figure 10", 35, 320, convolutions)


DRAWINGS = {
    table.name: table
    for table in (
        *(form(size) for size in (3, 5, 7) for form in (square, chain, asymmetric)),
        naive_module(),
        reduced_module(),
        expanded_module(),
        deeper_module(),
        pool_then_convolve(),
        convolve_then_pool(),
        reduce_in_parallel(),
    )
}
