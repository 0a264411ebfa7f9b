"""Damaged files of every kind that is read, by number.

`case(17, folder)` is always the same file, with its outcome.
"""

import io
import json
import random
import shutil
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict
from PIL import Image

import inception_jax
from inception_jax.atomic_io import split_lines
from inception_jax.checkpointing.run_record import read_attempts
from inception_jax.checkpointing.workdir import read_data_facts
from inception_jax.config import Data, Experiment, Model, read_experiment, to_json
from inception_jax.data import records, tfrecords
from inception_jax.data.decode import decode
from inception_jax.data.facts import DataFacts, SplitFacts
from inception_jax.data.records import RecordSource, serialize_example
from inception_jax.data.source import Example
from inception_jax.errors import UserError
from inception_jax.evaluation.imagenet import read_excluded, read_reassessed_labels
from inception_jax.report.artifacts import load_run_artifacts
from inception_jax.weights import files as weights_file
from inception_jax.weights.cards import Card
from inception_jax.weights.convert.importer import import_weights
from inception_jax.weights.convert.preprocessing import read_timm_config
from inception_jax.weights.convert.readers import _caffe_message, read_arrays
from inception_jax.weights.trained_network import read_lineage

LONGEST_SECONDS = 60
MOST_MEGABYTES = 2048


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
      name: Name of the file.
      make: Writes an intact one into a folder.
      use: Reads it, and returns its contents, to compare with those of the intact one.
      protected: Whether the format has a checksum of all that is used, so that no damage may be
        used.
    """

    name: str
    make: Callable[[Path], Any]
    use: Callable[[Path], Any]
    protected: bool = False


class Outcome(NamedTuple):
    """The outcome of a damaged file.

    It is `refused` with an error that a user can resolve, the `same` as the intact one, `other`
    where the format has no checksum; or a fault: `traceback`, `silent` (damage that a checksum
    detects was used), `slow`.
    """

    number: int
    kind: str
    harm: str
    verdict: str
    seconds: float
    message: str


def photograph(kind: str, **options: Any) -> bytes:
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (80, 60), Image.Resampling.BICUBIC
    )
    exif, opened = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    pixels.save(opened, kind, exif=exif, **options)
    return opened.getvalue()


def image(name: str, kind: str, protected: bool = False, **options: Any) -> Kind:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(photograph(kind, **options))

    return Kind(name, make, lambda folder: decode((folder / name).read_bytes()), protected)


@cache
def variables() -> dict[str, Any]:
    import jax

    from benchmarks.random_variables import variables as drawn

    return jax.tree.map(np.asarray, drawn(inception_jax.create("mnist_bn", num_classes=10)))


def own_weights(folder: Path) -> None:
    card = Card(Model("mnist_bn"), Data(image_size=28), 10, tuple("abcdefghij"))
    weights_file.save(
        folder / "own.safetensors", card, variables(), {"logits": np.linspace(0, 1, 65)}
    )


def use_own_weights(folder: Path) -> Any:
    found = weights_file.read_file(folder / "own.safetensors")
    return [found.card, flatten_dict(found.variables, sep="/")]


@cache
def foreign() -> dict[str, np.ndarray]:
    from inception_jax.weights.convert.conversion import list_shapes
    from inception_jax.weights.convert.sources import SOURCES

    there = SOURCES["torchvision"]["resnet18"]
    network = inception_jax.create("resnet18", variant="torchvision", num_classes=7)
    rng = np.random.default_rng(0)
    return {
        array.theirs: rng.uniform(0.5, 1, array.layout.shape).astype(np.float16)
        for array in there.arrays(list_shapes(network))
    }


def foreign_safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(
        {f"module.{name}": array for name, array in foreign().items()},
        folder / "theirs.safetensors",
    )


def use_foreign(folder: Path) -> Any:
    return flatten_dict(
        import_weights(
            "torchvision", folder / "theirs.safetensors", "resnet18", class_names=tuple("abcdefg")
        ).variables,
        sep="/",
    )


def keras_file(path: Path) -> None:
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as opened:
        for i, name in enumerate(("conv2d", "conv2d_1", "dense")):
            group = opened.create_group(f"layers/layer_{i}/vars")
            group.attrs["name"] = name
            group["0"], group["1"] = rng.normal(size=(3, 3, 2, 4)), rng.normal(size=4)


def old_keras_file(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as opened:
        opened.attrs["layer_names"] = [b"conv2d", b"dense"]
        for name in ("conv2d", "dense"):
            group = opened.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode()]
            group[f"{name}/kernel:0"] = np.random.default_rng(0).normal(size=(8, 8))


def keras_archive(folder: Path) -> None:
    keras_file(folder / "inner.h5")
    with zipfile.ZipFile(folder / "w.keras", "w") as archive:
        archive.write(folder / "inner.h5", "model.weights.h5")
    (folder / "inner.h5").unlink()


def caffe(folder: Path) -> None:
    net = _caffe_message()()
    for name in ("conv1", "conv2"):
        blob = net.layer.add(name=name, type="Convolution").blobs.add()
        blob.shape.dim.extend((4, 3, 2, 2))
        blob.data.extend(range(48))
    (folder / "w.caffemodel").write_bytes(net.SerializeToString())


def tfrecord(folder: Path) -> None:
    with (folder / "a.tfrecord").open("wb") as opened:
        for i in range(5):
            data = serialize_example(Example(photograph("JPEG"), i % 2, f"{i}.jpg"))
            length = struct.pack("<Q", len(data))
            opened.write(
                length
                + struct.pack("<I", tfrecords.compute_masked_crc(length))
                + data
                + struct.pack("<I", tfrecords.compute_masked_crc(data))
            )


def index(folder: Path) -> None:
    found = {
        "class_names": ["a", "b"],
        "first_label": 0,
        "splits": {"train": {"a.array_record": 5}},
    }
    (folder / "records.json").write_text(json.dumps(found))
    records.write_records(
        [serialize_example(Example(photograph("JPEG"), i % 2, f"{i}.jpg")) for i in range(5)],
        folder / "a.array_record",
    )


def use_records(folder: Path) -> Any:
    source = RecordSource("train", str(folder))
    return [source.class_names, *(source[i] for i in range(len(source)))]


def workdir(folder: Path) -> None:
    """Writes all side files of a run."""
    (folder / "experiment.json").write_text(json.dumps(to_json(Experiment(Model("mnist_bn")))))
    rows = [
        {
            "step": step,
            "train/loss": 2.0,
            "val/top1": 0.5,
            "val/top5": 0.9,
            "val/loss": 1.0,
            "val/count": 10,
        }
        for step in range(1, 9)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(
        json.dumps({"attempts": [{"began": "", "ended": None, "outcome": None, "jax": "1"}]})
    )
    facts = DataFacts(("a", "b"), SplitFacts("train", 5, "0123"), SplitFacts("test", 5, None))
    (folder / "data.json").write_text(json.dumps(facts.to_json()))
    lineage = {
        "source": "torchvision",
        "file": "w.pth",
        "sha256": "",
        "release": "unknown",
        "licence": "x",
        "digest": "",
        "tuned_from": {},
    }
    (folder / "initial.json").write_text(json.dumps(lineage))
    layers = [{"name": "Stem/norm", "mean": 0.1, "variance": 1.0}]
    (folder / "health.json").write_text(
        json.dumps({"layers": layers, "running": 0.5, "population": 0.6})
    )
    np.savez(
        folder / "worst.npz", image=np.zeros((3, 8, 8, 3), np.uint8), label=np.zeros(3, int),
        prediction=np.ones(3, int), probability=np.full(3, 0.6), loss=np.ones(3),
        class_names=np.array(["ant", "bee"]), confusion=np.ones((2, 2), int),
        example=np.zeros((8, 8, 3), np.uint8),
    )  # fmt: skip


def text(name: str, content: str, use: Callable[[Path], Any]) -> Kind:
    return Kind(
        name, lambda folder: (folder / name).write_text(content), lambda folder: use(folder / name)
    )


TIMM = {
    "input_size": [3, 160, 160],
    "interpolation": "bilinear",
    "crop_pct": 0.95,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}

KINDS = (
    Kind("own.safetensors", own_weights, use_own_weights, protected=True),
    Kind("theirs.safetensors", foreign_safetensors, use_foreign),
    Kind(
        "w.h5",
        lambda folder: keras_file(folder / "w.h5"),
        lambda folder: read_arrays(folder / "w.h5"),
    ),
    Kind(
        "old.h5",
        lambda folder: old_keras_file(folder / "old.h5"),
        lambda folder: read_arrays(folder / "old.h5"),
    ),
    Kind("w.keras", keras_archive, lambda folder: read_arrays(folder / "w.keras"), protected=True),
    Kind("w.caffemodel", caffe, lambda folder: read_arrays(folder / "w.caffemodel")),
    image("a.png", "PNG", protected=True),
    image("a.jpg", "JPEG"),
    image("progressive.jpg", "JPEG", progressive=True),
    image("a.webp", "WEBP"),
    image("a.tiff", "TIFF", compression="tiff_lzw"),
    image("a.gif", "GIF"),
    image("a.bmp", "BMP"),
    image("a.ppm", "PPM"),
    Kind(
        "a.tfrecord",
        tfrecord,
        lambda folder: list(tfrecords.read_tfrecords(folder / "a.tfrecord")),
        protected=True,
    ),
    Kind("a.array_record", index, use_records),
    Kind("records.json", index, use_records),
    *(
        Kind(name, workdir, use)
        for name, use in (
            ("experiment.json", read_experiment),
            ("metrics.jsonl", load_run_artifacts),
            ("run.json", read_attempts),
            ("data.json", read_data_facts),
            ("worst.npz", load_run_artifacts),
            ("health.json", load_run_artifacts),
            ("initial.json", read_lineage),
        )
    ),
    text(
        "config.json",
        json.dumps(TIMM),
        lambda path: read_timm_config(path.with_name("w.safetensors")),
    ),
    text("names.txt", "ant\nbee\ncat\n", lambda path: split_lines(path.read_bytes())),
    text("blacklist.txt", "2\n20\n40000\n", lambda path: read_excluded(path, np.arange(1, 50))),
    text("real.json", "[[1], [], [2, 3]]", read_reassessed_labels),
)


def harmed(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """Returns what was done to a file, and its bytes after."""
    place, length = rng.randrange(len(data)), rng.choice([1, 2, 4, 16, 256])
    harm = rng.choice(
        [
            "flip",
            "flip",
            "flip",
            "cut",
            "gap",
            "zeros",
            "noise",
            "largest",
            "twice",
            "added",
            "deep",
            "start",
            "junk",
        ]
    )
    before, after = data[:place], data[place + length :]
    noise = rng.randbytes(length)
    changed = {
        "flip": lambda: before + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :],
        "cut": lambda: before,
        "gap": lambda: before + after,
        "zeros": lambda: before + bytes(length) + after,
        "noise": lambda: before + noise + after,
        "largest": lambda: before + b"\xff" * length + after,
        "twice": lambda: before + data[max(0, place - 4096) : place] + data[place:],
        "added": lambda: data + noise,
        "deep": lambda: before + b"[" * 100_000 + data[place:],
        "start": lambda: data[:16] + rng.randbytes(min(len(data), 4096)),
        "junk": lambda: rng.randbytes(rng.choice([0, 1, 7, 100, 5000])),
    }[harm]()
    return f"{harm} at {place} of {len(data)}", changed


@cache
def whole(number: int, folder: Path) -> Any:
    """Makes the kind of that number in `folder`, and returns what is read of it."""
    folder.mkdir(parents=True, exist_ok=True)
    KINDS[number].make(folder)
    return KINDS[number].use(folder)


def case(number: int, folder: Path) -> Outcome:
    """Damages one file, reads it, and returns what became of it."""
    kind, rng = KINDS[number % len(KINDS)], random.Random(number)
    original = folder / f"whole-{number % len(KINDS)}"
    wanted = whole(number % len(KINDS), original)
    damaged = folder / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(original, damaged)
    harm, data = harmed(rng, (damaged / kind.name).read_bytes())
    (damaged / kind.name).write_bytes(data)
    began, message = time.perf_counter(), ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kind.use(damaged)
        verdict = "same" if equal(found, wanted) else "silent" if kind.protected else "other"
    except UserError as error:
        verdict, message = "refused", str(error)
    except Exception as error:
        verdict, message = "traceback", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    return Outcome(
        number,
        kind.name,
        harm,
        "slow" if seconds > LONGEST_SECONDS else verdict,
        seconds,
        message[:300],
    )


def equal(a: Any, b: Any) -> bool:
    """Returns whether two results are the same, arrays by their values."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.array_equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
