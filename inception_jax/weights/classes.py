"""The names of the classes of a head: ImageNet's thousand, behind what a release has in front of them, or names of its own."""

from functools import cache
from pathlib import Path

IMAGENET = Path(__file__).with_name("imagenet.txt")


@cache
def imagenet() -> tuple[str, ...]:
    """The names of ILSVRC-2012's classes in the order of their synsets, which all releases keep."""
    return tuple(line.split(" ", 1)[1] for line in IMAGENET.read_text().splitlines())


def names(count: int, offset: int) -> tuple[str, ...]:
    """Of a head of `count` classes whose first of ImageNet is number `offset`.

    Before it stands TF-Slim's background; what is left behind the thousandth (the graph of 2015 has seven) is of no class.
    """
    own = ("background",) * offset + imagenet()
    return own + tuple(f"unused {i}" for i in range(len(own), count))
