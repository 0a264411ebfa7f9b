"""The input pipeline beside its peers, per core.

    pip install tensorflow-cpu torch && python benchmarks/input_pipeline.py

Without those two libraries: `--peers`, which leaves them out.

Batches of 64 crops of 299x299 from JPEGs of 500x375 (quality 92, on disk as each side likes them),
cropped by the law of TensorFlow's `sample_distorted_bounding_box`, area from 0.08; on one core and
on two, by three resize rules, in rounds turn about:

  ours      ArrayRecord, a Grain thread for each core, simplejpeg, OpenCV or Pillow: what `train.py`
    runs, up to the batch
  tf_data   TFRecord, `decode_and_crop_jpeg`, resize, flip and normalisation on the host: Flax's
    ImageNet example tf_lean   the same without flip and normalisation, which our side leaves to the
    accelerator pytorch   a folder of files, Pillow, crop and resize in one, `DataLoader` with a
    process for each core

Every side is a process of its own that waits while another is timed. It runs pinned to its cores.
The decoder of tf.data is TensorFlow's default (INTEGER_FAST); with ours the accurate one.
"""

import argparse
import io
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.machine import exit_unavailable, make_parser, publish

SIZE, BATCH = 299, 64
Rule = Literal["bilinear", "antialias", "bicubic_antialias"]
RULES: tuple[Rule, ...] = get_args(Rule)
PEERS = {"tf_data": "tensorflow", "tf_lean": "tensorflow", "pytorch": "torch"}
"""Peer -> the library that it needs."""


def ours(folder: Path, rule: Rule, cores: int) -> Iterator[Any]:
    import numpy as np

    from inception_jax.config import Data, Experiment
    from inception_jax.data.batches import fill_batch, stream_batches
    from inception_jax.data.order import make_shuffled_order
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.experiment import Run

    data = Data(
        "records",
        directory=str(folder / "records"),
        image_size=SIZE,
        resize=rule,
        crop="height",
        crop_min_area=0.08,
    )
    run = Run(Experiment(data=data, batch_size=BATCH), all_devices_placement())
    filling = partial(
        fill_batch,
        batch_size=BATCH,
        order=make_shuffled_order(len(run.train_source), 0),
        source=run.train_source,
        pixels=run.training_pixels,
    )
    return stream_batches(filling, np.arange(BATCH), 0, 2**31, image_size=SIZE, threads=cores)


def tf_data(folder: Path, rule: Rule, cores: int, *, lean: bool = False) -> Iterator[Any]:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    mean, deviation = tf.constant([123.675, 116.28, 103.53]), tf.constant([58.395, 57.12, 57.375])

    def made(record: Any) -> Any:
        features = {
            "image": tf.io.FixedLenFeature([], tf.string),
            "label": tf.io.FixedLenFeature([], tf.int64),
        }
        example = tf.io.parse_single_example(record, features)
        shape = tf.io.extract_jpeg_shape(example["image"])
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            shape, tf.zeros((1, 0, 4)), min_object_covered=0.1, aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0), max_attempts=10, use_image_if_no_bounding_boxes=True,
        )  # fmt: skip
        (top, left, _), (height, width, _) = tf.unstack(begin), tf.unstack(size)
        image = tf.image.decode_and_crop_jpeg(
            example["image"], tf.stack([top, left, height, width]), channels=3
        )
        method = "bicubic" if rule.startswith("bicubic") else "bilinear"
        image = tf.image.resize(image, (SIZE, SIZE), method, antialias="antialias" in rule)
        if not lean:
            image = (tf.image.random_flip_left_right(image) - mean) / deviation
        return image, example["label"]

    options = tf.data.Options()
    options.threading.private_threadpool_size = cores
    options.deterministic = False
    files = tf.data.TFRecordDataset(str(folder / "train.tfrecord")).with_options(options)
    batches = (
        files.repeat()
        .map(made, tf.data.AUTOTUNE)
        .batch(BATCH, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )
    return iter(batches)


def pytorch(folder: Path, rule: Rule, cores: int) -> Iterator[Any]:
    import numpy as np
    import torch
    from PIL import Image

    from inception_jax.data.crop import UniformDraws, sample_distorted_bbox

    files = sorted((folder / "tree" / "train").glob("*/*.jpg"))
    method = Image.Resampling.BICUBIC if rule.startswith("bicubic") else Image.Resampling.BILINEAR

    class Photographs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files) * 1000

        def __getitem__(self, index: int) -> tuple[Any, int]:
            file = files[index % len(files)]
            image = Image.open(io.BytesIO(file.read_bytes())).convert("RGB")
            top, left, height, width = sample_distorted_bbox(
                UniformDraws(0, index), image.height, image.width, 0.08
            )
            box = (left, top, left + width, top + height)
            if "antialias" in rule:
                image = image.crop(box).resize((SIZE, SIZE), method)
            else:
                image = image.transform((SIZE, SIZE), Image.Transform.EXTENT, box, method)
            return torch.from_numpy(np.array(image)), int(file.parent.name)

    return iter(torch.utils.data.DataLoader(Photographs(), BATCH, shuffle=True, num_workers=cores))


def serve(side: str, folder: Path, images: int) -> None:
    """Times this side over so many images whenever a line `RULE CORES` is read; answers with
    images/s.
    """
    sides: dict[str, Callable[..., Iterator[Any]]] = {
        "ours": ours,
        "tf_data": tf_data,
        "tf_lean": lambda *given: tf_data(*given, lean=True),
        "pytorch": pytorch,
    }
    for line in sys.stdin:
        rule, cores = line.split()
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), range(int(cores)))
        batches = sides[side](folder, rule, int(cores))
        for _ in range(8):
            next(batches)
        began = time.perf_counter()
        for _ in range(images // BATCH):
            next(batches)
        print(json.dumps(images // BATCH * BATCH / (time.perf_counter() - began)), flush=True)
        del batches


def write_data(folder: Path, images: int, tfrecords: bool) -> None:
    from benchmarks.photographs import photographs
    from inception_jax.data.prepare import Preparation

    for i, (image, label) in enumerate(photographs(images)):
        file = folder / "tree" / "train" / str(label) / f"{i:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image)
    preparation = Preparation(folder / "tree", folder / "records")
    for shard in preparation.shards:
        preparation.write(shard)
    preparation.finish()
    if tfrecords:
        records = [record for shard in preparation.shards for record in shard.records()]
        subprocess.run(
            [sys.executable, "-c", WRITE_TFRECORDS, str(folder / "train.tfrecord")],
            input=pickle.dumps(records),
            check=True,
        )


WRITE_TFRECORDS = """
import pickle, sys
import tensorflow as tf
with tf.io.TFRecordWriter(sys.argv[1]) as file:
    for record in pickle.load(sys.stdin.buffer):
        file.write(record)
"""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--images", type=int, default=2048, help="in the data, and in each turn")
    parser.add_argument("--serve", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], Path(options.serve[1]), options.images)
        return
    sides, libraries = ("ours", *options.peers), {PEERS[peer] for peer in options.peers}
    if missing := sorted(library for library in libraries if find_spec(library) is None):
        exit_unavailable(f"not installed: {', '.join(missing)}; --peers chooses")
    if options.images < BATCH:
        parser.error(f"--images {options.images}: wanted is a batch of {BATCH} at least")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options.images, "tensorflow" in libraries)
        processes = {
            side: subprocess.Popen(
                [sys.executable, __file__, "--serve", side, name, "--images", str(options.images)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for side in sides
        }
        rates: dict[tuple[str, int, str], list[float]] = {}
        for turn in range(options.rounds + 1):
            for rule in options.rules:
                for cores in (1, 2):
                    for side, process in processes.items():
                        rate = ask(process, rule, cores)
                        if turn:  # the first round fills caches
                            rates.setdefault((rule, cores, side), []).append(rate)
                    print(
                        turn,
                        rule,
                        cores,
                        {s: round(rates[rule, cores, s][-1]) for s in sides if turn},
                        file=sys.stderr,
                        flush=True,
                    )
        for process in processes.values():
            process.communicate()
    figures = {
        "rounds": options.rounds,
        "rules": {rule: summary(rates, rule, sides) for rule in options.rules},
    }
    publish(options.results / "input_pipeline.json", figures, ("grain", "tensorflow-cpu", "torch"))


def ask(process: subprocess.Popen[str], rule: str, cores: int) -> float:
    """Returns the images/s of one turn of a side."""
    assert process.stdin
    assert process.stdout
    print(rule, cores, file=process.stdin, flush=True)
    return json.loads(process.stdout.readline())


def summary(
    rates: dict[tuple[str, int, str], list[float]], rule: str, sides: Sequence[str]
) -> dict[str, Any]:
    """Medians and spreads over rounds; each ratio is of the two sides of the same round."""
    found: dict[str, Any] = {}
    for cores in (1, 2):
        found[f"images_per_second_{cores}_core"] = {
            side: _spread(rates[rule, cores, side], 0) for side in sides
        }
        for peer in sides[1:]:
            ratios = [
                a / b
                for a, b in zip(rates[rule, cores, "ours"], rates[rule, cores, peer], strict=True)
            ]
            found[f"ours_over_{peer}_{cores}_core"] = _spread(ratios, 2)
    for side in sides:
        found[f"{side}_two_cores_over_one"] = _spread(
            [b / a for a, b in zip(rates[rule, 1, side], rates[rule, 2, side], strict=True)], 2
        )
    return found


def _spread(values: list[float], digits: int) -> dict[str, Any]:
    return {
        "median": round(statistics.median(values), digits),
        "spread": [round(min(values), digits), round(max(values), digits)],
    }


if __name__ == "__main__":
    main()
