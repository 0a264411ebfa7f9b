"""The fixtures: features, procedural images A and B, and random weights of the graph of 2015."""

import json
import zlib
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).with_name("fixtures")
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
CHECKSUMS = {("A", 64): 0x93C55D01, ("B", 64): 0x99FA162E}
"""CRC-32 of the pixels of the first 256 images."""


def load(name: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a fixture."""
    with np.load(FIXTURES / f"{name}.npz") as stored:
        return dict(stored)


def make_image(kind: str, index: int, size: int) -> np.ndarray:
    """Returns an image of the set A or B, [size, size, 3] uint8."""
    rng = np.random.default_rng([{"A": 1, "B": 2}[kind], index])
    y, x = np.mgrid[0:size, 0:size].astype(np.float64) / size
    image = np.zeros((size, size, 3))
    top = 20 if kind == "A" else 9
    for _ in range(6 if kind == "A" else 4):
        fx, fy = rng.uniform(-top, top, 2)
        phase = rng.uniform(0, 2 * np.pi)
        amplitude = rng.uniform(0.2, 1.0, 3) * rng.choice([-1, 1], 3)
        image += np.sin(2 * np.pi * (fx * x + fy * y) + phase)[..., None] * amplitude
    for _ in range(3):
        cx, cy, s = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.3)
        colour = rng.uniform(-3, 3, 3)
        if rng.uniform() < (0.5 if kind == "A" else 0.8):
            mask = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * s * s))
        else:
            mask = ((np.abs(x - cx) < s) & (np.abs(y - cy) < s)).astype(float)
        image += mask[..., None] * colour
    gain = 45 if kind == "A" else 38
    return np.clip(np.rint(image * gain + rng.uniform(80, 170, 3)), 0, 255).astype(np.uint8)


def make_images(kind: str, count: int, size: int) -> np.ndarray:
    """Returns the first images of a set, [count, size, size, 3] uint8."""
    return np.stack([make_image(kind, i, size) for i in range(count)])


def make_state_dict(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns random weights in pytorch-fid's names, with calibrated running statistics."""
    found = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([2015, 12, 5, zlib.crc32(name.encode())])
        if name.endswith("conv.weight"):
            array = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith("bn.weight"):
            array = rng.uniform(0.8, 1.2, shape)
        elif name.endswith("bn.bias"):
            array = rng.normal(0, 0.2, shape)
        elif name == "fc.weight":
            array = rng.normal(0, 0.12, shape)
        elif name == "fc.bias":
            array = rng.normal(0, 0.3, shape)
        else:
            continue
        found[name] = array.astype(np.float32)
    return found | load("bn_statistics")


def make_graph_weights(folder: Path) -> Path:
    """Writes these weights as pytorch-fid's state dict, converts them, and returns the file."""
    from flax.traverse_util import unflatten_dict
    from safetensors.numpy import save_file

    from inception_jax.nn.create import create
    from inception_jax.weights.convert.conversion import list_shapes, to_theirs
    from inception_jax.weights.convert.importer import get_source_spec, import_weights
    from inception_jax.weights.files import save

    network = create("inception_v3", variant="fid", num_classes=1008)
    empty = {name: np.zeros(shape, np.float32) for name, shape in list_shapes(network).items()}
    theirs = to_theirs(
        get_source_spec("fid", "inception_v3"), network, unflatten_dict(empty, sep="/")
    )
    save_file(
        make_state_dict({name: array.shape for name, array in theirs.items()}),
        folder / "state_dict.safetensors",
    )
    found = import_weights("fid", folder / "state_dict.safetensors", "inception_v3")
    save(folder / "graph.safetensors", found.card, found.variables)
    return folder / "graph.safetensors"


def make_small_weights(path: Path, seed: int = 0) -> Path:
    """Writes random weights of the MNIST network, [28, 28, 1] to 100 features."""
    import jax

    from inception_jax.config import Data, Model
    from inception_jax.nn.create import create
    from inception_jax.weights.cards import Card
    from inception_jax.weights.files import save

    network = create("mnist_bn", num_classes=10)
    variables = network.init(jax.random.key(seed), np.zeros((1, 28, 28, 1), np.float32))
    # Sigmoids of small sums hardly vary: with kernels as drawn the distance is near to rounding.
    variables = jax.tree.map(lambda x: x * 4 if x.ndim > 1 else x, variables)
    names = tuple(map(str, range(10)))
    card = Card(Model("mnist_bn"), Data(image_size=28), 10, names)
    save(path, card, jax.tree.map(np.asarray, dict(variables)))
    return path
