"""FID beside pytorch-fid and torch-fidelity: from two folders to the number, and the root alone.

    python benchmarks/fid.py [--images 128] [--size 64] [--rounds 3] [--features 10000]

The same random weights and the same PNG files for all, networks loaded and compiled before, in one
process on all cores (or on a GPU, where PyTorch and JAX both have it), in alternating rounds.
`images_per_second` counts both sets and the distance. `statistics_and_root` is from features in
memory [N, 2048] to the number: ours streams them in batches of 250, SciPy's way is np.cov and
scipy.linalg.sqrtm. `times_as_fast` is ours over the peer, by round. Needs the extra `parity`,
torch-fidelity and `scipy<1.18`.
"""

import contextlib
import importlib.util
import io
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from benchmarks.features import summarize
from benchmarks.machine import exit_unavailable, make_parser, publish
from benchmarks.random_variables import variables as invented
from inception_jax.generative.collecting import collect_images
from inception_jax.generative.extractor import Engine, Extractor
from inception_jax.generative.frechet import frechet_distance
from inception_jax.generative.image_sets import open_image_set
from inception_jax.generative.presets import IMAGE_SIZE, PRESETS
from inception_jax.generative.statistics import compile_update, gather_sums, make_statistics
from inception_jax.nn.create import create
from inception_jax.weights import files
from inception_jax.weights.convert.conversion import to_theirs
from inception_jax.weights.convert.importer import get_source_spec, import_weights
from inception_jax.weights.trained_network import TrainedNetwork, load_trained

Run = Callable[[], float]
PEERS = ("pytorch_fid", "torch_fidelity", "scipy")
BATCH = 50
"""Images of a batch: pytorch-fid's default."""
STREAMED = 250
"""Features of a batch in `statistics_and_root`."""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=128, help="of each set")
    parser.add_argument("--size", type=int, default=64, help="pixels of each side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--features", type=int, default=10_000, help="of each set, for the root")
    options = parser.parse_args()
    if missing := [name for name in PEERS if importlib.util.find_spec(name) is None]:
        exit_unavailable(f"{', '.join(missing)} are not installed, which this is measured beside")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        runs = make_runs(place, options.images, options.size)
        found = {name: run() for name, run in runs.items()}
        print("warm:", found)
        roots = make_roots(options.features)
        seconds = measure(runs, options.rounds)
        root_seconds = measure(roots, options.rounds)
    rates = {name: [2 * options.images / one for one in own] for name, own in seconds.items()}
    ours = [name for name in rates if name.startswith("inception_jax")]
    publish(
        options.results / "fid.json",
        {
            "images_of_each_set": options.images,
            "image_size": options.size,
            "batch": BATCH,
            "fid": found,
            "images_per_second": {name: summarize(own) for name, own in rates.items()},
            "times_as_fast": {
                f"{name} over {peer}": summarize(
                    [a / b for a, b in zip(rates[name], rates[peer], strict=True)]
                )
                for name in ours
                for peer in rates.keys() - set(ours)
            },
            "statistics_and_root": {
                "features": [options.features, 2048],
                "seconds": {name: summarize(own) for name, own in root_seconds.items()},
                "times_as_fast": summarize(
                    [
                        theirs / own
                        for theirs, own in zip(
                            root_seconds["SciPy"], root_seconds["inception_jax"], strict=True
                        )
                    ]
                ),
            },
        },
        packages=["torch", "pytorch-fid", "torch-fidelity", "scipy", "onnxruntime"],
    )


def measure(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each run in alternating rounds."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs)[:: 1 if i % 2 else -1]:
            begin = time.perf_counter()
            runs[name]()
            found[name].append(time.perf_counter() - begin)
            print(f"round {i + 1}: {name} {found[name][-1]:.2f} s", flush=True)
    return found


def make_runs(place: Path, count: int, size: int) -> dict[str, Run]:
    """Returns, by name, functions from two folders to an FID."""
    for kind, blocks in (("A", 12), ("B", 9)):
        (place / kind).mkdir()
        for index in range(count):
            pixels = np.random.default_rng((blocks, index)).integers(0, 256, (blocks, blocks, 3))
            small = Image.fromarray(pixels.astype(np.uint8))
            small.resize((size, size)).save(place / kind / f"{index:05d}.png")
    trained = load_trained(str(make_weights(place)))
    runs = {}
    if jax.default_backend() == "cpu":
        runs["inception_jax, ONNX Runtime"] = make_own(place, trained, "pytorch-fid", "onnx")
    runs["inception_jax, XLA"] = make_own(place, trained, "pytorch-fid", "xla")
    runs["pytorch-fid"] = make_pytorch_fid(place)
    runs["torch-fidelity"] = make_torch_fidelity(place)
    return runs


def make_weights(place: Path) -> Path:
    """Writes random weights of the graph of 2015-12-05 for all programs; returns our file."""
    network = create("inception_v3", variant="fid", num_classes=1008)
    random = invented(network, image_size=IMAGE_SIZE)
    theirs = to_theirs(get_source_spec("fid", "inception_v3"), network, random)
    save_file(theirs, place / "state_dict.safetensors")
    found = import_weights("fid", place / "state_dict.safetensors", "inception_v3")
    files.save(place / "graph.safetensors", found.card, found.variables)
    return place / "graph.safetensors"


def make_own(place: Path, trained: TrainedNetwork, preset: str, engine: Engine) -> Run:
    """Returns a function that scores the folders with this package."""
    settings = PRESETS[preset]
    extractor = Extractor(trained, settings, engine=engine)

    def run() -> float:
        with contextlib.redirect_stderr(io.StringIO()):
            real, fake = (
                collect_images(
                    open_image_set(str(place / kind)), extractor, batch_size=BATCH, blocks=0,
                    threads=os.cpu_count() or 1,
                )
                for kind in "AB"
            )  # fmt: skip
        # Without its interval, which the others have not.
        return frechet_distance(real.moments, fake.moments, settings.ddof).value

    return run


def make_pytorch_fid(place: Path) -> Run:
    """Returns a function that scores the folders with pytorch-fid."""
    import torch

    from inception_jax.weights.reference.reference_models import import_torchvision

    import_torchvision()
    from pytorch_fid import fid_score, inception
    from safetensors.torch import load_file

    state = load_file(place / "state_dict.safetensors")
    inception.load_state_dict_from_url = lambda *a, **k: state
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = inception.InceptionV3([3]).eval().to(device)
    torch.save(state, place / "state_dict.pth")

    def run() -> float:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sets = [
                fid_score.compute_statistics_of_path(
                    str(place / kind), network, BATCH, 2048, device, os.cpu_count() or 1
                )
                for kind in "AB"
            ]
            return float(fid_score.calculate_frechet_distance(*sets[0], *sets[1]))

    return run


def make_torch_fidelity(place: Path) -> Run:
    """Returns a function that scores the folders with torch-fidelity."""
    import torch
    from torch_fidelity import calculate_metrics

    def run() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = calculate_metrics(
                input1=str(place / "B"), input2=str(place / "A"), cuda=torch.cuda.is_available(),
                fid=True, batch_size=BATCH, cache=False, verbose=False,
                feature_extractor="inception-v3-compat",
                feature_extractor_weights_path=str(place / "state_dict.pth"),
            )  # fmt: skip
        return float(found["frechet_inception_distance"])

    return run


def make_roots(count: int) -> dict[str, Run]:
    """Returns, by name, functions from features of two sets to an FID."""
    import scipy.linalg

    from inception_jax.distributed.mesh import make_placement

    rng = np.random.default_rng(0)
    scale = np.geomspace(0.05, 3, 2048).astype(np.float32)
    sets = [
        np.abs(rng.standard_normal((count, 2048), np.float32) * scale) + np.float32(shift)
        for shift in (0.48, 0.5)
    ]
    placement = make_placement(jax.devices()[:1])
    update = compile_update(placement)

    def ours() -> float:
        found = []
        for rows in sets:
            state = make_statistics(2048, placement)
            for start in range(0, count, STREAMED):
                part = rows[start : start + STREAMED]
                state = update(state, part, np.ones(len(part), np.float32))
            found.append(gather_sums(state).to_moments())
        return frechet_distance(found[0], found[1]).value

    def theirs() -> float:
        (m, s), (n, t) = ((rows.mean(0), np.cov(rows, rowvar=False)) for rows in sets)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = scipy.linalg.sqrtm(s @ t)
        return float((m - n) @ (m - n) + np.trace(s) + np.trace(t) - 2 * np.trace(root.real))

    print("root:", ours(), theirs())
    return {"inception_jax": ours, "SciPy": theirs}


if __name__ == "__main__":
    main()
