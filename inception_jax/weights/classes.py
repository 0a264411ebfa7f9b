"""Names of classes: ImageNet's thousand, with an offset for each release, or a network's own."""

from functools import cache
from pathlib import Path

import numpy as np

from inception_jax.data.source import DataError, Example, Source

IMAGENET = Path(__file__).with_name("imagenet.txt")


@cache
def _lines() -> tuple[tuple[str, str], ...]:
    """Returns the WordNet id and the name of each class."""
    ids = (line.partition(" ") for line in IMAGENET.read_text().splitlines())
    return tuple((id, name) for id, _, name in ids)


def list_imagenet_names() -> tuple[str, ...]:
    """Returns the names of ILSVRC-2012's classes in the order of their synsets.

    All releases keep this order.
    """
    return tuple(name for _, name in _lines())


def list_class_names(count: int, offset: int) -> tuple[str, ...]:
    """Returns the names of `count` classes, ImageNet's from number `offset` on.

    TF-Slim's background precedes them. Classes after the thousandth (seven in the graph of 2015)
    have none.
    """
    own = ("background",) * offset + list_imagenet_names()
    return own + tuple(f"unused {i}" for i in range(len(own), count))


class RelabelledSource:
    """Another source with the labels of a network."""

    def __init__(self, source: Source, labels: np.ndarray, class_names: tuple[str, ...]):
        self._source, self._labels = source, labels
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        example = self._source[index]
        return example._replace(label=int(self._labels[example.label]))

    @property
    def labels(self) -> np.ndarray:
        """Returns those of all images where they are known without reading any, else none."""
        known = np.asarray(getattr(self._source, "labels", ()), np.int64)
        return self._labels[known]


def relabel(source: Source, class_names: tuple[str, ...]) -> RelabelledSource:
    """Returns `source` with the labels that `class_names` give its classes.

    The source may have fewer classes in another order, identified by name or by ImageNet's WordNet
    ids.

    Raises:
      DataError: The network lacks one of its classes.
    """
    known = {name: label for label, name in reversed(list(enumerate(class_names)))}
    known |= {id: known[name] for id, name in _lines() if name in known and id not in known}
    if strangers := [name for name in source.class_names if name not in known]:
        shown = f"{', '.join(strangers[:5])}{' ...' if len(strangers) > 5 else ''}"
        raise DataError(
            f"the network has no class called {shown} ({len(strangers)} of "
            f"{len(source.class_names)}); it has {', '.join(class_names[:5])}"
            f"{' ...' if len(class_names) > 5 else ''}: name the folders as its classes, or by "
            "ImageNet's WordNet ids"
        )
    return RelabelledSource(
        source, np.array([known[name] for name in source.class_names], np.int64), class_names
    )
