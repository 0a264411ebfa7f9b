"""The Inception Score: exp E KL(p(y|x) || p(y)).

Source: Salimans et al. 2016, arXiv:1606.03498. The classes are the 1008 outputs of the graph of
2015-12-05, without the bias of its last layer, as improved-gan took them.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from inception_jax.data.source import DataError
from inception_jax.generative.scores import Interval, assign_blocks, jackknife


@dataclass(frozen=True)
class Splits:
    """The rule by which a set is split.

    Attributes:
      count: Number of splits, whose bounds are i * N // count.
      run: Images of a split instead, of which the last may have fewer (ADM); 0 for `count` splits.
      seed: Seed of NumPy's `RandomState` that permutes the set first; None for the order as given.
      ddof: 0 or 1, for the reported deviation over the splits.
      is_chunked: Whether splits are those of `torch.chunk`: of ceil(N / count) images, the last of
        fewer, and of small sets fewer splits.
    """

    count: int = 1
    run: int = 0
    seed: int | None = None
    ddof: int = 0
    is_chunked: bool = False

    def list_bounds(self, num_images: int) -> list[int]:
        """Returns the first index of each split, and the end of the last.

        Raises:
          DataError: A split has no image.
        """
        run = -(-num_images // self.count) if self.is_chunked else self.run
        if run:
            return [*range(0, num_images, run), num_images]
        if num_images < self.count:
            raise DataError(
                f"{num_images} images were to be split into {self.count}: give fewer splits "
                "(--is-splits 1), or more images"
            )
        return [i * num_images // self.count for i in range(self.count + 1)]


class InceptionScore(NamedTuple):
    """An Inception Score: its mean over the splits, and that of each."""

    value: float
    parts: np.ndarray

    def compute_deviation(self, ddof: int) -> float | None:
        """Returns the standard deviation over the splits; None where there are too few."""
        return float(self.parts.std(ddof=ddof)) if len(self.parts) > ddof else None


def inception_score(
    logits: ArrayLike, splits: Splits = Splits(), order: ArrayLike | None = None
) -> InceptionScore:
    """Returns the Inception Score of logits [N, K].

    Args:
      logits: Logits, without the bias of the last layer.
      splits: How the set is split. The score is biased low: of ten splits of 26 images it is 3.40
        where one split of 260 gives 3.74.
      order: Indices [N] instead of the order of `splits`, where another program permuted them.

    Raises:
      DataError: There are fewer images than splits, or logits are NaN or infinite.
    """
    log_probabilities = log_softmax(logits)
    count = len(log_probabilities)
    if order is not None:
        log_probabilities = log_probabilities[np.asarray(order)]
    elif splits.seed is not None:
        generator = np.random.RandomState(splits.seed)
        log_probabilities = log_probabilities[generator.permutation(count)]
    bounds = splits.list_bounds(count)
    parts = [
        _score(*_sum_terms(log_probabilities[start:end]), end - start)
        for start, end in pairwise(bounds)
    ]
    return InceptionScore(float(np.mean(parts)), np.array(parts))


def estimate_score_interval(logits: ArrayLike, value: float, blocks: int) -> Interval:
    """Returns bias and standard error of an Inception Score, by the block jackknife.

    Args:
      logits: Logits [N, K].
      value: The score, of any number of splits. The bias is its distance from the score of one
        split without that one's own bias.
      blocks: Number of blocks.
    """
    log_probabilities = log_softmax(logits)
    owners = assign_blocks(len(log_probabilities), blocks)
    sums = [_sum_terms(log_probabilities[owners == block]) for block in range(blocks)]
    entropies = np.array([entropy for entropy, _ in sums])
    marginals = np.stack([marginal for _, marginal in sums])
    counts = np.bincount(owners, minlength=blocks)
    total = (entropies.sum(), marginals.sum(0))
    whole = _score(*total, counts.sum())
    left_out = [
        _score(total[0] - entropies[i], total[1] - marginals[i], counts.sum() - counts[i])
        for i in range(blocks)
        if counts.sum() > counts[i]
    ]
    found = jackknife(whole, left_out)
    if found.bias is None:
        return found
    return Interval(value - (whole - found.bias), found.deviation)


def log_softmax(logits: ArrayLike) -> np.ndarray:
    """Returns log-probabilities [N, K] in float64.

    Raises:
      DataError: A logit is NaN or infinite, or there is no image.
    """
    values = np.asarray(logits, np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise DataError(
            f"logits {list(values.shape)} are none, or some are NaN or infinite: see to the weights"
        )
    shifted = values - values.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def _sum_terms(log_probabilities: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the sum of p log p over images and classes, and the sum of p over images [K]."""
    probabilities = np.exp(log_probabilities)
    return float((probabilities * log_probabilities).sum()), probabilities.sum(0)


def _score(entropy: float, marginal: np.ndarray, count: int) -> float:
    mean = marginal / count
    seen = mean[mean > 0]
    return float(np.exp(entropy / count - (seen * np.log(seen)).sum()))
