"""The depth of a table: the layers with weights on its longest path, as the papers count them."""

from inception_jax.spec import vocabulary as words
from inception_jax.spec.vocabulary import (
    Architecture,
    Concat,
    Conv,
    Dropout,
    Layer,
    Linear,
    NormAct,
    Pool,
    Residual,
    Softmax,
    Steps,
    Word,
)


def count_depth(architecture: Architecture, *, pools: bool = False) -> int:
    """Returns the number of layers with weights on the longest path from the image to the logits.

    Args:
      architecture: The network.
      pools: Whether pooling layers count too.
    """
    return sum(_count_steps(steps, pools) for _, steps in architecture.layers)


def _count_steps(steps: Steps, pools: bool) -> int:
    if isinstance(steps, tuple):
        return sum(_count_steps(step, pools) for step in steps)
    return _count_word(steps, pools)


def _count_word(word: Word, pools: bool) -> int:
    match word:
        case Conv() | Linear():
            return 1
        case Pool():
            return int(pools)
        case Concat():
            return max(_count_steps(branch, pools) for branch in word.branches)
        case Residual():
            branch = _count_steps(word.branch, pools) + word.expansion_conv
            if word.shortcut is None or word.shortcut == "pad":
                return branch
            return max(branch, _count_steps(word.shortcut, pools))
        case Dropout() | Layer() | words.LocalResponse() | NormAct() | Softmax():
            return 0
    raise words.UnknownWordError(f"{word!r} is no word that a table is made of")
