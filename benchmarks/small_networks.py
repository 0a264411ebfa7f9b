"""Networks that compile in seconds, for tests of runs, and networks without their repeated rows."""

from dataclasses import replace
from typing import Any

from inception_jax.config import Experiment
from inception_jax.recipes import load_recipe
from inception_jax.spec.vocabulary import (
    Architecture,
    Concat,
    Dropout,
    Linear,
    Residual,
    Softmax,
    avg,
    concat,
    global_avg,
    same,
    table,
)


def line_of(network: str) -> tuple[str, ...]:
    """Returns arguments of `train`: the digits with a small network, 16 pixels and no warm-up."""
    data = (
        "--data.image-size",
        "16",
        "--data.margin",
        "1",
        "--data.translate",
        "1",
        "--schedule.warmup-epochs",
        "0",
    )
    return ("digits", "--import", "benchmarks.registered", "--model.name", network, *data)


LINE = line_of("mixed")


def module(width):
    return concat(same(width, 1), (same(width, 1), same(width, 3)), (avg(3), same(width, 1)))


def residual():
    return Residual(concat(same(4, 1), (same(4, 1), same(4, 3))), expansion_conv=True)


def of(name: str, **rows: Concat | Residual) -> Architecture:
    layers = table(
        Stem=same(8, 3, 2),
        **rows,
        Pool=global_avg(),
        Dropout=Dropout(0.2),
        Logits=Linear(),
        Predictions=Softmax(),
    )
    return Architecture(name, "paper", layers, "a test", 16, num_classes=10)


def one() -> Architecture:
    return of("one", Mixed=module(4))


def mixed() -> Architecture:
    """Returns a network with the parts of the digits' network and of the Inception-ResNets."""
    return of("mixed", Mixed=module(4), Block=residual())


SMALL = {"one": one, "mixed": mixed}


def each_row_once(table: Architecture) -> Architecture:
    """Returns the table without rows that equal the one before, which compile to the same."""
    heads = {head.at for head in table.aux}
    pairs = zip(((None, None), *table.layers), table.layers, strict=False)
    return replace(
        table,
        layers=tuple(
            row
            for before, row in pairs
            if row[1] != before[1] or row[0] in heads or row[0] == table.logits_row
        ),
    )


def small(network: str = "mixed", **changes: Any) -> Experiment:
    """Returns the configuration of `line_of`."""
    config = load_recipe("digits").config
    data = replace(
        config.data, image_size=16, margin=1, translate=1, threads=0, test_split="test[:50]"
    )
    return replace(
        config,
        model=replace(config.model, name=network),
        data=data,
        **{"batch_size": 32, **changes},
    )
