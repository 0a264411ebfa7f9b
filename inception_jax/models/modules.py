"""The papers' drawings, each as a table of one module: what a claim about a module's cost is computed from.

They are not networks and not in the registry; `measure` and `Network` take them like any other table. Counts are of
weights alone (no norm, no bias), as the papers count.
"""

from inception_jax.models import googlenet, inception_v3
from inception_jax.spec.vocabulary import Architecture, Steps, Unit, concat, conv, max_, same, valid

WEIGHTS = Unit(norm=False)


def drawing(name: str, source: str, grid: int, channels: int, steps: Steps) -> Architecture:
    return Architecture(
        name, "drawing", (("Module", steps),), source, grid, WEIGHTS, channels=channels
    )


def square(size: int, filters: int = 64) -> Architecture:
    """One convolution of size x size that keeps the number of channels."""
    return drawing(
        f"square_{size}x{size}", "arXiv:1512.00567, section 3", 35, filters, same(filters, size)
    )


def chain(size: int, filters: int = 64) -> Architecture:
    """arXiv:1512.00567, figure 1: what `square(size)` sees, by 3x3 convolutions one after the other."""
    return drawing(
        f"chain_{size}x{size}",
        "arXiv:1512.00567, figure 1",
        35,
        filters,
        (same(filters, 3),) * (size // 2),
    )


def asymmetric(size: int, filters: int = 64) -> Architecture:
    """arXiv:1512.00567, figure 3: `square(size)` as 1 x size and size x 1."""
    steps = (same(filters, (1, size)), same(filters, (size, 1)))
    return drawing(f"asymmetric_{size}x{size}", "arXiv:1512.00567, figure 3", 35, filters, steps)


def naive_module() -> Architecture:
    """arXiv:1409.4842, figure 2(a), with the filters of (3a)."""
    return drawing(
        "naive_module",
        "arXiv:1409.4842, figure 2(a)",
        28,
        192,
        googlenet.naive(64, (96, 128), (16, 32), 32),
    )


def reduced_module() -> Architecture:
    """arXiv:1409.4842, figure 2(b), with the filters of (3a)."""
    return drawing(
        "reduced_module",
        "arXiv:1409.4842, figure 2(b)",
        28,
        192,
        googlenet.module(64, (96, 128), (16, 32), 32),
    )


def expanded_module() -> Architecture:
    """arXiv:1512.00567, figure 7: 1x3 and 3x1 side by side."""
    return drawing("expanded_module", "arXiv:1512.00567, figure 7", 8, 1280, inception_v3.mixed_8())


def deeper_module() -> Architecture:
    """What figure 7 avoids: 1x3 and 3x1 one after the other, which leaves 1,280 of 2,048 channels."""
    fork = (same(384, (1, 3)), same(384, (3, 1)))
    one, three, double, pool = inception_v3.mixed_8().branches
    module = concat(one, (three[0], fork), (*double[:2], fork), pool)  # type: ignore[index]
    return drawing("deeper_module", "arXiv:1512.00567, section 4", 8, 1280, module)


def pool_then_convolve() -> Architecture:
    """arXiv:1512.00567, figure 9, left: cheap, with a bottleneck of 17x17x320 between."""
    return drawing(
        "pool_then_convolve",
        "arXiv:1512.00567, figure 9",
        35,
        320,
        (max_(3, 2, "valid"), conv(640, 1)),
    )


def convolve_then_pool() -> Architecture:
    """arXiv:1512.00567, figure 9, right: no bottleneck, and all the work on the larger grid."""
    return drawing(
        "convolve_then_pool",
        "arXiv:1512.00567, figure 9",
        35,
        320,
        (conv(640, 1), max_(3, 2, "valid")),
    )


def reduce_in_parallel() -> Architecture:
    """arXiv:1512.00567, figure 10, from 35x35x320 to 17x17x640."""
    convolutions = concat(
        valid(160, 3, 2), (same(64, 1), same(96, 3), valid(160, 3, 2)), max_(3, 2, "valid")
    )
    return drawing("reduce_in_parallel", "arXiv:1512.00567, figure 10", 35, 320, convolutions)


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
