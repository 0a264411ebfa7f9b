"""How deep a table is: layers with weights on the longest way through it, as the papers count them."""

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
    """Layers with weights on the longest way from image to logits; with `pools`, pooling layers count too."""
    return sum(_steps(steps, pools) for _, steps in architecture.layers)


def _steps(steps: Steps, pools: bool) -> int:
    return (
        sum(_steps(step, pools) for step in steps)
        if isinstance(steps, tuple)
        else _word(steps, pools)
    )


def _word(word: Word, pools: bool) -> int:
    match word:
        case Conv() | Linear():
            return 1
        case Pool():
            return int(pools)
        case Concat():
            return max(_steps(branch, pools) for branch in word.branches)
        case Residual():
            around = 0 if word.shortcut in (None, "pad") else _steps(word.shortcut, pools)  # type: ignore[arg-type]
            return max(_steps(word.branch, pools) + word.expansion_conv, around)
        case Dropout() | Layer() | words.LocalResponse() | NormAct() | Softmax():
            return 0
    raise words.UnknownWordError(f"{word!r} is no word that a table is made of")
