"""Published files of other projects: `releases.json`, one row each.

A row has the input, the licence and the published accuracy: single crop, on ImageNet's 50,000
validation images. A file is identified by the digest of its arrays (`cards.hash_arrays`) where the
table has it, else by the beginning of its SHA-256 where the project publishes it, else by its name.
Timm's rows are from its configurations and results (huggingface/pytorch-image-models, 1.0.31),
torchvision's from its weights' metadata (0.28.0).
"""

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from inception_jax.config import Data

RELEASES_FILE = Path(__file__).with_name("releases.json")
SUFFIXES = (
    r"(?:\.(?:pth|pt|bin|tar|safetensors|h5|hdf5|keras|ckpt|caffemodel|npz|model|weights)"
    r"(?:-\d+)?)*"
)


CLASS_LISTS = {
    0: "none: features alone",
    1000: "ImageNet's 1,000",
    1001: "a background, then ImageNet's 1,000",
    1008: "a background, ImageNet's 1,000, and 7 unused ones",
    8631: "identities of VGGFace2",
    10575: "identities of CASIA-WebFace",
}
"""Number of classes of a release -> what they are."""


@dataclass(frozen=True)
class Release:
    """A published file.

    Attributes:
      id: `timm/resnet50.a1_in1k`; the project is before the first `/`.
      model: Name of the network here.
      name: Pattern of the file's name without suffixes, or of its folder's; empty where a name does
        not identify it.
      sha256: The beginning of the file's SHA-256.
      arrays: Digest of its converted arrays; empty where it is not known.
      licence: Licence of the weights.
      top1: Published top-1 in percent; None for none.
      top5: Published top-5 in percent; None for none.
      data: Input fields that differ from the project's network.
      num_classes: Number of classes of the classifier; None for an unlisted release.
      repository: Repository of Hugging Face that has the file.
      url: Address of the file, where it is in no repository.
      page: Address of the page for people, where there is no address for programs.
      file: Name of the file.
      member: Name of the file of weights in an archive.
      size: Bytes of the file; 0 where they are not published.
      md5: MD5 of the file.
      sha1: SHA-1 of the file.
      score_size: Image size in pixels at which `top1` and `top5` were measured.
      score_crop: Fraction of the shorter side that was cropped in that measurement.
      facts: Where the facts of this row are from.
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
    num_classes: int | None = None
    repository: str = ""
    url: str = ""
    page: str = ""
    file: str = ""
    member: str = ""
    size: int = 0
    md5: str = ""
    sha1: str = ""
    score_size: int | None = None
    score_crop: float | None = None
    facts: str = ""

    @property
    def digests(self) -> dict[str, str]:
        """Returns the published digests of the file: name of the hash -> first digits.

        A repository has its own. The digests of its rows are of the same arrays in the project's
        older format.
        """
        kinds = ("sha256", "md5", "sha1")
        own = {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}
        return {} if self.repository else own

    @property
    def digest(self) -> str:
        """Returns how a download is checked, as text."""
        if self.repository:
            return "the repository's own"
        found = [f"{kind} {value}" for kind, value in self.digests.items()]
        return ", ".join(found) or "none published"

    @property
    def source(self) -> str:
        """Returns the name of the project."""
        return self.id.partition("/")[0]

    def get_input(self, data: Data) -> Data:
        """Returns the input of the release, from that of the project's network."""
        return replace(data, **self.data)


RELEASES = tuple(Release(**row) for row in json.loads(RELEASES_FILE.read_text()))


class KnownRelease(NamedTuple):
    """A release, and how a file was identified: its id, its arrays, its SHA-256 or its name."""

    release: Release
    by: str


def find_release(
    source: str, model: str, file: str | Path = "", sha256: str = "", arrays: str = ""
) -> KnownRelease | None:
    """Returns the release that a file is; None for an unknown one.

    Args:
      source: The project.
      model: Name of the network here.
      file: Path of the file; the folder of a hub's copy (`models--timm--resnet50.a1_in1k`) counts
        too.
      sha256: SHA-256 of the file.
      arrays: Digest of its converted arrays.
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
    """Returns the published accuracy as fractions, and how the file was identified, for a card."""
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


def make_release_record(release: Release, assumed: Data) -> dict[str, Any]:
    """Returns a release as an object for programs, without its empty fields.

    Args:
      assumed: The input of the project's network.
    """
    own = {**asdict(release), "size": release.size or None}
    fields = {
        name: value
        for name, value in own.items()
        if value not in ("", None) and name not in ("name", "data")
    }
    data = release.get_input(assumed)
    names = ("image_size", "test_crop", "test_crop_fraction", "resize", "scaling")
    return {
        **fields,
        "digest": release.digest,
        "classes": CLASS_LISTS[release.num_classes]
        if release.num_classes is not None
        else "unknown",
        "input": {name: getattr(data, name) for name in names},
    }
