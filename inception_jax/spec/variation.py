"""Tables with one fact changed: what "Batch Normalization" (Ioffe & Szegedy 2015, arXiv:1502.03167) varies in section 4.2."""

from dataclasses import replace
from typing import Any

from inception_jax.spec.vocabulary import Architecture, Conv, Init, LocalResponse, rewrite_words


def remove_local_response(architecture: Architecture) -> Architecture:
    """The same table without local response normalisation, which batch normalisation makes needless (section 4.2.1)."""
    return rewrite_words(architecture, lambda word: () if isinstance(word, LocalResponse) else word)


def scale_initial_kernels(architecture: Architecture, factor: float) -> Architecture:
    """Initial kernels of convolutions with `factor` times their deviation, as in the networks of the ensemble (section 4.2.3)."""

    def scaled(init: Init) -> Init:
        return replace(init, scale=init.scale * (factor**2 if init.fan else factor))

    def change(word: Any) -> Any:
        return (
            replace(word, init=scaled(word.init)) if isinstance(word, Conv) and word.init else word
        )

    unit = replace(
        architecture.unit,
        init=scaled(architecture.unit.init),
        linear_init=architecture.unit.linear_init or architecture.unit.init,
    )
    return replace(rewrite_words(architecture, change), unit=unit)
