"""The Kernel Inception Distance: the maximum mean discrepancy with a cubic kernel.

    k(a, b) = (a . b / d + 1)^3

Source: Binkowski et al. 2018, arXiv:1801.01401. Each estimate is unbiased within its sets: the
diagonals are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from inception_jax.data.source import DataError
from inception_jax.generative.scores import (
    JACKKNIFE_BLOCKS,
    Interval,
    assign_blocks,
    jackknife,
)

Estimator = Literal["subsets", "blocks", "all"]
MAX_PAIRED = 5000
"""Examples up to which the interval is from all pairs; above, from blocks of `BLOCK_SIZE`."""
BLOCK_SIZE = 1000
ROWS = 1024
"""Rows of a kernel matrix that are in memory at once."""


@dataclass(frozen=True)
class Subsets:
    """The rule by which random subsets are drawn.

    Attributes:
      count: Number of subsets.
      size: Examples of each set in a subset; the smaller set's size where `shrinks` and it has
        fewer.
      seed: Seed of NumPy's `RandomState`, which stays the same in all versions.
      fake_first: Whether each subset draws from the generated set first.
      shrinks: Whether smaller sets are allowed.
    """

    count: int = 100
    size: int = 1000
    seed: int = 2020
    fake_first: bool = True
    shrinks: bool = False

    def get_size(self, smaller: int) -> int:
        """Returns the size of a subset, for the number of images of the smaller set.

        Raises:
          DataError: The set has fewer images.
        """
        size = min(self.size, smaller) if self.shrinks else self.size
        if smaller < size:
            raise DataError(
                f"kid draws subsets of {size:,} images, and a set has {smaller:,}: give a smaller "
                f"subset (--kid-subset-size {smaller}), or all pairs (--kid all)"
            )
        return size


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the kernel [N, M] of features [N, d] and [M, d], in float64."""
    product = np.asarray(a, np.float64) @ np.asarray(b, np.float64).T
    return (product / a.shape[1] + 1) ** 3


def compute_mmd(real: np.ndarray, fake: np.ndarray) -> float:
    """Returns the unbiased squared maximum mean discrepancy of features [N, d] and [M, d]."""
    return _compute_mmd_of_sums(*_block_sums(real, fake, 1))


def draw_subsets(
    num_real: int, num_fake: int, subsets: Subsets
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the indices of each subset in the real and in the generated set, [size] each.

    Raises:
      DataError: A set has fewer examples than a subset.
    """
    size = subsets.get_size(min(num_real, num_fake))
    generator = np.random.RandomState(subsets.seed)
    for _ in range(subsets.count):
        counts = (num_fake, num_real) if subsets.fake_first else (num_real, num_fake)
        drawn = [generator.choice(count, size, replace=False) for count in counts]
        yield (drawn[1], drawn[0]) if subsets.fake_first else (drawn[0], drawn[1])


def iterate_blocks(count: int, blocks: int) -> Iterator[np.ndarray]:
    """Yields the indices of consecutive blocks whose sizes differ by one at most, smaller first."""
    size, larger = divmod(count, blocks)
    sizes = [size] * (blocks - larger) + [size + 1] * larger
    ends = np.cumsum(sizes)
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield np.arange(start, end)


def count_blocks(num_real: int, num_fake: int, block_size: int = BLOCK_SIZE) -> int:
    """Returns the number of blocks of at most `block_size` examples of each set."""
    return -(-max(num_real, num_fake) // block_size)


def check_blocks(num_real: int, num_fake: int, block_size: int = BLOCK_SIZE) -> None:
    """Raises an error for a set that is too small for its blocks.

    Raises:
      DataError: A block would have fewer than two examples.
    """
    blocks, smaller = count_blocks(num_real, num_fake, block_size), min(num_real, num_fake)
    if smaller < 2 * blocks:
        raise DataError(
            f"{blocks} blocks of {block_size:,} images leave fewer than two to a block of the "
            f"smaller set, which has {smaller:,}: give all pairs (--kid all)"
        )


class KernelDistance(NamedTuple):
    """A Kernel Inception Distance.

    Attributes:
      value: The mean over subsets or blocks, or the estimate from all pairs.
      parts: The value of each subset or block.
    """

    value: float
    parts: np.ndarray


def kernel_distance(
    real: np.ndarray,
    fake: np.ndarray,
    estimator: Estimator = "all",
    subsets: Subsets | Sequence[tuple[np.ndarray, np.ndarray]] = Subsets(),
    block_size: int = BLOCK_SIZE,
) -> KernelDistance:
    """Returns the Kernel Inception Distance of features [N, d] and [M, d].

    Args:
      real: Features of the reference set.
      fake: Features of the generated set.
      estimator: `subsets`, random ones, as most programs report it; `blocks`, consecutive ones of
        at most `block_size` (TF-GAN); `all`, all pairs, which needs no chance.
      subsets: How subsets are drawn; or their indices (real, fake), where another program drew
        them.
      block_size: The largest size of a block.

    Raises:
      DataError: A set has fewer than two examples, or fewer than a subset.
    """
    for name, rows in (("reference", real), ("generated", fake)):
        if len(rows) < 2:
            raise DataError(f"the {name} set has {len(rows)} images: wanted are two or more")
    if estimator == "all":
        parts = [compute_mmd(real, fake)]
    elif estimator == "blocks":
        blocks = count_blocks(len(real), len(fake), block_size)
        check_blocks(len(real), len(fake), block_size)
        own, others = iterate_blocks(len(real), blocks), iterate_blocks(len(fake), blocks)
        parts = [compute_mmd(real[i], fake[j]) for i, j in zip(own, others, strict=True)]
    else:
        if isinstance(subsets, Subsets):
            subsets = list(draw_subsets(len(real), len(fake), subsets))
        parts = [compute_mmd(real[i], fake[j]) for i, j in subsets]
    return KernelDistance(float(np.mean(parts)), np.array(parts))


def estimate_kid_interval(real: np.ndarray, fake: np.ndarray) -> Interval:
    """Returns the bias (0) and standard error of the distance of features [N, d] and [M, d].

    By the block jackknife over all pairs up to `MAX_PAIRED` examples; above, from consecutive
    blocks, which are independent where random subsets are not.
    """
    if max(len(real), len(fake)) > MAX_PAIRED:
        smaller = min(len(real), len(fake))
        if smaller < 2 * count_blocks(len(real), len(fake)):
            return Interval(0.0, None)
        parts = kernel_distance(real, fake, "blocks").parts
        return Interval(0.0, float(parts.std(ddof=1) / np.sqrt(len(parts))))
    blocks = min(JACKKNIFE_BLOCKS, len(real) // 2, len(fake) // 2)
    within, between, across, counts = _block_sums(real, fake, blocks)
    everything = np.arange(blocks)
    left_out = []
    for block in range(blocks):
        kept = everything != block
        square = np.ix_(kept, kept)
        left_out.append(
            _compute_mmd_of_sums(within[square], between[square], across[square], counts[:, kept])
        )
    value = _compute_mmd_of_sums(within, between, across, counts)
    return Interval(0.0, jackknife(value, left_out).deviation)


def _block_sums(
    real: np.ndarray, fake: np.ndarray, blocks: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the sums of the kernel over pairs of blocks, and the sizes of blocks.

    Returns:
      Real pairs and generated pairs, both without the diagonal, and real-generated pairs
      [blocks, blocks]; sizes [2, blocks].
    """
    owners = [assign_blocks(len(rows), blocks) for rows in (real, fake)]
    counts = np.stack([np.bincount(owner, minlength=blocks) for owner in owners])

    def add(a: np.ndarray, b: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        found = np.zeros((blocks, blocks))
        columns = np.eye(blocks)[second]
        for start in range(0, len(a), ROWS):
            part = slice(start, start + ROWS)
            values = kernel(a[part], b)
            if a is b:
                values[np.arange(len(values)), np.arange(start, start + len(values))] = 0
            found += np.eye(blocks)[first[part]].T @ values @ columns
        return found

    return (
        add(real, real, owners[0], owners[0]),
        add(fake, fake, owners[1], owners[1]),
        add(real, fake, *owners),
        counts,
    )


def _compute_mmd_of_sums(
    within: np.ndarray, between: np.ndarray, across: np.ndarray, counts: np.ndarray
) -> float:
    n, m = counts.sum(1)
    pairs = within.sum() / (n * (n - 1)) + between.sum() / (m * (m - 1))
    return float(pairs - 2 * across.sum() / (n * m))
