"""Features and scores beside the other programs themselves: `pytest -m parity`.

pytorch-fid 0.3.0 (with `scipy<1.18`), torch-fidelity, torchmetrics, clean-fid and prdc, with the
same random weights in all of them.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest

from inception_jax.generative.presets import PRESETS
from tests.generative.samples import load, make_graph_weights, make_images

pytestmark = [pytest.mark.parity, pytest.mark.slow]
PEERS = ("torch_fidelity", "torchmetrics", "cleanfid", "pytorch_fid", "prdc", "scipy")
BOUND = {64: 2e-5, 299: 2e-5, 512: 5e-5}
"""Image size -> largest difference of pool3, over its largest value."""
IMAGES = {64: 8, 299: 8, 512: 4}
NUM_SCORED = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from inception_jax.weights.reference.reference_models import import_torchvision

    pytest.importorskip("torch")
    import_torchvision()
    for name in PEERS:
        pytest.importorskip(name)
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
def weights(folder):
    """The same weights as our file and as PyTorch's."""
    import torch
    from safetensors.torch import load_file

    ours = make_graph_weights(folder)
    torch.save(load_file(folder / "state_dict.safetensors"), folder / "state_dict.pth")
    return ours, folder / "state_dict.pth"


@pytest.fixture(scope="module")
def trained(weights):
    from inception_jax.weights.trained_network import load_trained

    return load_trained(str(weights[0]))


@pytest.fixture(scope="module")
def pytorch_fid_network(weights):
    import torch
    from pytorch_fid import inception

    state = torch.load(weights[1])
    patch = pytest.MonkeyPatch()
    patch.setattr(inception, "load_state_dict_from_url", lambda *a, **k: state)
    found = inception.InceptionV3([3]).eval()
    patch.undo()
    return found


@pytest.fixture(scope="module")
def torch_fidelity_network(weights):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    names = ["2048", "logits_unbiased"]
    found = FeatureExtractorInceptionV3("inception-v3-compat", names, str(weights[1]))
    return found.eval()


def pytorch_fid(images, request):
    import torch

    network = request.getfixturevalue("pytorch_fid_network")
    given = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    return network(given)[0][:, :, 0, 0].numpy()


def torch_fidelity(images, request):
    import torch

    network = request.getfixturevalue("torch_fidelity_network")
    return network(torch.from_numpy(images).permute(0, 3, 1, 2))[0].numpy()


def torchmetrics(images, request):
    import torch
    from torchmetrics.image.fid import NoTrainInceptionV3

    path = str(request.getfixturevalue("weights")[1])
    network = NoTrainInceptionV3("inception-v3-compat", ["2048"], path)
    return network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()


def clean_fid(images, request):
    import torch
    from cleanfid.resize import build_resizer

    network, resize = request.getfixturevalue("pytorch_fid_network"), build_resizer("clean")
    resized = np.stack([resize(image) for image in images]).clip(0, 255)
    given = torch.from_numpy(resized).permute(0, 3, 1, 2)
    return inner(network, (given - 128) / 128)


def inner(network, given):
    """pytorch-fid's network without its resize and scaling."""
    resizes, scales = network.resize_input, network.normalize_input
    network.resize_input = network.normalize_input = False
    try:
        return network(given)[0][:, :, 0, 0].numpy()
    finally:
        network.resize_input, network.normalize_input = resizes, scales


RUNS = {
    "pytorch-fid": pytorch_fid,
    "torch-fidelity": torch_fidelity,
    "torchmetrics": torchmetrics,
    "clean-fid": clean_fid,
}


@pytest.mark.parametrize("engine", ["xla", "onnx"])
@pytest.mark.parametrize("size", BOUND)
@pytest.mark.parametrize("preset", RUNS)
def test_pooled_features_are_those_of_the_program(trained, request, preset, size, engine):
    import torch

    from inception_jax.generative.extractor import Extractor

    images = make_images("A", IMAGES[size], size)
    with torch.no_grad():
        expected = RUNS[preset](images, request)
    extractor = Extractor(trained, PRESETS[preset], engine=engine)
    _, found = extractor.step(extractor.make_state(), images, np.ones(len(images), np.float32))
    error = np.abs(np.asarray(found.pooled) - expected).max() / np.abs(expected).max()
    print(f"{preset} {size} {engine}: {error:.1e}")
    assert error < BOUND[size]


@pytest.mark.parametrize("size", [64, 299, 512])
def test_tensorflow_1s_resize_has_the_bits_of_torch_fidelitys(folder, size):
    import jax
    import torch
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    from inception_jax.generative.resizing import resize_images

    images = make_images("B", 2, size)
    given = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    expected = interpolate_bilinear_2d_like_tensorflow1x(given, (299, 299), align_corners=False)
    found = jax.jit(lambda x: resize_images(x, "tf1", 299))(images)
    np.testing.assert_array_equal(np.asarray(found), expected.permute(0, 2, 3, 1).numpy())


@pytest.fixture(scope="module")
def folders(folder):
    from PIL import Image

    for kind in "AB":
        (folder / kind).mkdir()
        for index, image in enumerate(make_images(kind, NUM_SCORED, 64)):
            Image.fromarray(image).save(folder / kind / f"{index:04d}.png")
    return folder / "A", folder / "B"


@pytest.fixture(scope="module")
def scores(trained, folders):
    """Ours by preset, over all metrics that the programs have."""
    from inception_jax.generative.collecting import collect_images
    from inception_jax.generative.extractor import Extractor
    from inception_jax.generative.image_sets import open_image_set
    from inception_jax.generative.kernel_distance import Subsets
    from inception_jax.generative.metrics import compute_scores, list_needs

    def compute(preset, **changes):
        from dataclasses import replace

        settings = replace(PRESETS[preset], kid=Subsets(10, 32), **changes)
        extractor = Extractor(trained, settings)
        metrics = ("fid", "kid", "is", "pr", "dc")
        real, fake = (
            collect_images(
                open_image_set(str(path)), extractor, batch_size=32, needs=list_needs(metrics)
            )
            for path in folders
        )
        return compute_scores(metrics, real, fake, settings), real, fake

    cache = {}
    return lambda preset: cache.setdefault(preset, compute(preset))


def test_all_scores_beside_torch_fidelity(scores, folders, weights):
    from torch_fidelity import calculate_metrics

    found, _, _ = scores("torch-fidelity")
    expected = calculate_metrics(
        input1=str(folders[1]), input2=str(folders[0]), cuda=False, fid=True, kid=True, isc=True,
        kid_subsets=10, kid_subset_size=32, batch_size=32, cache=False, verbose=False,
        feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(weights[1]),
        save_cpu_ram=True,
    )  # fmt: skip
    print(expected, found["fid"].value)
    # Its own error for fewer images than features is -8.6e-7.
    assert found["fid"].value == pytest.approx(expected["frechet_inception_distance"], rel=1e-5)
    assert found["kid"].value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
    assert found["kid"].split_deviation == pytest.approx(
        expected["kernel_inception_distance_std"], rel=1e-4
    )
    assert found["inception_score"].value == pytest.approx(
        expected["inception_score_mean"], rel=1e-5
    )
    assert found["inception_score"].split_deviation == pytest.approx(
        expected["inception_score_std"], rel=1e-3
    )


def test_precision_and_recall_beside_torch_fidelity_and_prdc(scores):
    import torch
    from prdc import compute_prdc
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    found, real, fake = scores("torch-fidelity")
    own, others = np.array(real.features), np.array(fake.features)
    precision, recall = calculate_precision_recall_full(
        torch.from_numpy(others), torch.from_numpy(own)
    )
    assert found["precision"].value == pytest.approx(precision, abs=1e-6)
    assert found["recall"].value == pytest.approx(recall, abs=1e-6)
    expected = compute_prdc(own, others, nearest_k=5)
    assert found["density"].value == pytest.approx(expected["density"], rel=1e-12)
    assert found["coverage"].value == pytest.approx(expected["coverage"], rel=1e-12)


def test_the_distance_beside_pytorch_fid(scores, folders, pytorch_fid_network):
    from pytorch_fid.fid_score import calculate_frechet_distance, compute_statistics_of_path

    statistics = [
        compute_statistics_of_path(str(path), pytorch_fid_network, 32, 2048, "cpu", 0)
        for path in folders
    ]
    expected = calculate_frechet_distance(*itertools.chain(*statistics))
    assert scores("pytorch-fid")[0]["fid"].value == pytest.approx(expected, rel=1e-4)


def test_distances_beside_torchmetrics(scores, weights):
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    found, real, fake = scores("torchmetrics")
    metric = FrechetInceptionDistance(feature_extractor_weights_path=str(weights[1]))
    kernel = KernelInceptionDistance(feature=metric.inception, subsets=10, subset_size=32)
    for kind in "AB":
        images = torch.from_numpy(make_images(kind, NUM_SCORED, 64)).permute(0, 3, 1, 2)
        for part in images.split(32):
            metric.update(part, real=kind == "A")
            kernel.update(part, real=kind == "A")
    assert found["fid"].value == pytest.approx(float(metric.compute()), rel=1e-4)
    # Its subsets are those of torch's generator: drawn here, and given by their indices.
    from inception_jax.generative.kernel_distance import kernel_distance

    torch.manual_seed(0)
    drawn = [(torch.randperm(64)[:32].numpy(), torch.randperm(64)[:32].numpy()) for _ in range(10)]
    torch.manual_seed(0)
    mean, deviation = kernel.compute()
    ours = kernel_distance(real.features, fake.features, "subsets", drawn)
    assert ours.value == pytest.approx(float(mean), rel=1e-4)
    assert ours.parts.std() == pytest.approx(float(deviation), rel=1e-4)


def test_the_distance_beside_clean_fid(scores, folders, pytorch_fid_network):
    from cleanfid.fid import frechet_distance, get_folder_features, kernel_distance

    def model(images):
        return inner(pytorch_fid_network, (images - 128) / 128)

    class Network:
        def __call__(self, images):
            import torch

            with torch.no_grad():
                return torch.from_numpy(model(images))

    own, others = (
        get_folder_features(
            str(path), Network(), num_workers=0, batch_size=32, device="cpu", verbose=False
        )
        for path in folders
    )
    expected = frechet_distance(
        own.mean(0), np.cov(own, rowvar=False), others.mean(0), np.cov(others, rowvar=False)
    )
    found, real, fake = scores("clean-fid")
    assert found["fid"].value == pytest.approx(expected, rel=1e-4)
    np.random.seed(0)
    from inception_jax.generative.kernel_distance import Subsets
    from inception_jax.generative.kernel_distance import kernel_distance as ours

    theirs = kernel_distance(own, others, num_subsets=10, max_subset_size=32)
    same = ours(real.features, fake.features, "subsets", Subsets(10, 32, 0, True, True)).value
    assert same == pytest.approx(theirs, rel=1e-3)


def test_statistics_of_the_programs_are_read(folder, folders, pytorch_fid_network, weights):
    """pytorch-fid's own file, and torch-fidelity's cache, without unpickling."""
    from pytorch_fid.fid_score import compute_statistics_of_path
    from torch_fidelity import calculate_metrics

    from inception_jax.generative.statistics_file import read_statistics

    mean, covariance = compute_statistics_of_path(
        str(folders[0]), pytorch_fid_network, 32, 2048, "cpu", 0
    )
    np.savez_compressed(folder / "theirs.npz", mu=mean, sigma=covariance)
    found = read_statistics(folder / "theirs.npz", PRESETS["pytorch-fid"])
    np.testing.assert_array_equal(found.moments.covariance, covariance)
    calculate_metrics(
        input1=str(folders[1]), input2=str(folders[0]), cuda=False, fid=True, verbose=False,
        input2_cache_name="reference", cache_root=str(folder / "cache"), batch_size=32,
        feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(weights[1]),
    )  # fmt: skip
    (cached,) = (folder / "cache").rglob("*stat-fid*.pt")
    import torch

    expected = torch.load(cached, weights_only=False)
    found = read_statistics(Path(cached), PRESETS["torch-fidelity"])
    np.testing.assert_array_equal(found.moments.mean, expected["mu"])
    np.testing.assert_array_equal(found.moments.covariance, expected["sigma"])


def test_the_fixtures_are_what_the_programs_give(request):
    images, expected = make_images("A", 6, 64), load("images_fixture")
    import torch

    with torch.no_grad():
        for name, key in (("torch-fidelity", "pool3"), ("pytorch-fid", "pool3_pytorch_fid")):
            found = RUNS[name](images, request)
            np.testing.assert_allclose(found, expected[key], rtol=1e-3, atol=1e-4)
