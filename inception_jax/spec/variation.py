"""Tables with one fact changed, as in section 4.2 of "Batch Normalization" (arXiv:1502.03167)."""

from dataclasses import replace
from typing import Any

from inception_jax.spec.vocabulary import Architecture, Conv, Init, LocalResponse, rewrite_words


def remove_local_response(architecture: Architecture) -> Architecture:
    """Returns the table without local response normalisation.

    Batch normalisation makes it needless (arXiv:1502.03167, section 4.2.1).
    """
    return rewrite_words(architecture, lambda word: () if isinstance(word, LocalResponse) else word)


def scale_initial_kernels(architecture: Architecture, factor: float) -> Architecture:
    """Returns the table with `factor` times the standard deviation in the initial kernels.

    Only kernels of convolutions change. The networks of the ensemble in arXiv:1502.03167,
    section 4.2.3, are initialised so.
    """

    def scale_init(init: Init) -> Init:
        return replace(init, scale=init.scale * (factor**2 if init.fan else factor))

    def change(word: Any) -> Any:
        if isinstance(word, Conv) and word.init:
            return replace(word, init=scale_init(word.init))
        return word

    unit = architecture.unit
    unit = replace(unit, init=scale_init(unit.init), linear_init=unit.linear_init or unit.init)
    return replace(rewrite_words(architecture, change), unit=unit)
