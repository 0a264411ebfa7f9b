"""Files that projects have published: `releases.json`, a row for each, with what it is fed, its licence and the accuracy that its project
states: single crop, on ImageNet's 50,000 validation images.

A file is known by the digest of its arrays (`cards.digest_arrays`) where that is in the table, else by the beginning of the SHA-256 of its
bytes where the project publishes it, else by its name. Timm's rows are from its own configurations and results
(huggingface/pytorch-image-models, 1.0.31), torchvision's from its weights' metadata (0.28.0).
"""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from inception_jax.config import Data

RELEASES_FILE = Path(__file__).with_name("releases.json")
SUFFIXES = r"(?:\.(?:pth|pt|bin|tar|safetensors|h5|hdf5|keras|ckpt|caffemodel|npz|model|weights)(?:-\d+)?)*"


@dataclass(frozen=True)
class Release:
    """
    Attributes:
      id: `timm/resnet50.a1_in1k`; what stands before the first `/` is the project.
      name: a pattern of the file's name without its suffixes, or of its folder's; empty where a name says nothing.
      sha256: the beginning of that of the file.
      arrays: the digest of its arrays as they are here; empty where nobody has computed it.
      top1, top5: in percent; None where none is published.
      data: what it is fed otherwise than its project's networks are.
    """

    id: str
    model: str
    name: str = ""
    sha256: str = ""
    arrays: str = ""
    licence: str = "unknown"
    top1: float | None = None
    top5: float | None = None
    data: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def source(self) -> str:
        return self.id.partition("/")[0]

    def fed(self, data: Data) -> Data:
        """Returns what it is fed, of what its project's network is fed otherwise."""
        return replace(data, **self.data)


RELEASES = tuple(Release(**row) for row in json.loads(RELEASES_FILE.read_text()))


class KnownRelease(NamedTuple):
    """A release, and by what a file is known to be it: `its arrays`, `its SHA-256`, `its name`."""

    release: Release
    by: str


def find_release(
    source: str, model: str, file: str | Path = "", sha256: str = "", arrays: str = ""
) -> KnownRelease | None:
    """Returns the release of `source`'s `model` that a file is; None where it is not known.

    Args:
      file: its path; the folder of a hub's copy (`models--timm--resnet50.a1_in1k`) has a name, too.
    """
    own = [release for release in RELEASES if (release.source, release.model) == (source, model)]
    for release in own:
        if arrays and release.arrays == arrays:
            return KnownRelease(release, "its arrays")
        if release.sha256 and sha256.startswith(release.sha256):
            return KnownRelease(release, "its SHA-256")
    path = Path(file)
    names = [path.name, *(part.rpartition("--")[2] for part in path.parts[:-1])]
    for release in own:
        if release.name and any(
            re.fullmatch(f"(?:{release.name}){SUFFIXES}", name) for name in names
        ):
            return KnownRelease(release, "its name")
    return None


def format_published(found: KnownRelease) -> dict[str, Any]:
    """Returns, for a card, the published accuracy as fractions, and how the file was known."""
    scores = {
        name: value
        for name, value in (("top1", found.release.top1), ("top5", found.release.top5))
        if value is not None
    }
    return (
        {**{name: round(value / 100, 5) for name, value in scores.items()}, "known_by": found.by}
        if scores
        else {}
    )
