"""Weights by id, from a server on the loopback address, with every fault a download can have."""

import hashlib
import json
import resource
import signal
import tarfile
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import huggingface_hub.constants
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image
from safetensors.numpy import save

import inception_jax
from inception_jax import weights
from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.models import REGISTRY, register
from inception_jax.weights import hub
from inception_jax.weights.convert.source_spec import SourceSpec
from inception_jax.weights.convert.sources import SOURCES, torchvision
from inception_jax.weights.hub import get_cached_path, is_release_id, pull_weights, resolve_weights
from inception_jax.weights.releases import Release
from tests.weights.hub_server import serve
from tests.weights.test_convert import NAMES, TORCH, arrays_of, small

SHOWN = {"image_size": 40, "test_crop": "square", "test_crop_fraction": 0.875}


@pytest.fixture(scope="module")
def spec():
    """A small network that torchvision and timm are made to publish."""
    register("small_of_hub", paper=small)
    there = SourceSpec("small_of_hub", "paper", TORCH, NAMES, torchvision.IMAGENET)
    for source in ("torchvision", "timm"):
        SOURCES[source]["small_of_hub"] = there
    yield there
    for source in ("torchvision", "timm"):
        SOURCES[source].pop("small_of_hub")
    REGISTRY.pop("small_of_hub")


@pytest.fixture(scope="module")
def content(spec):
    return save(arrays_of(spec))


@pytest.fixture
def server(spec, content, tmp_path, monkeypatch):
    """A hub with a repository and a file, empty caches, and a table of releases with both."""
    monkeypatch.setenv("INCEPTION_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        server.files["/timm/small.x_in1k/resolve/main/model.safetensors"] = content
        server.files["/small-1234.pth"] = content
        digest = hashlib.sha256(content).hexdigest()
        facts = {"model": "small_of_hub", "licence": "ours", "num_classes": 1000, "data": SHOWN}
        rows = (
            Release("timm/small.x_in1k", repository="timm/small.x_in1k", top1=70.0, top5=90.0,
                    file="model.safetensors", **facts),
            Release("torchvision/small.v1", url=f"{server.address}/small-1234.pth",
                    file="small-1234.pth", sha256=digest[:8], **facts),
            Release("torchvision/small.unhashed", url=f"{server.address}/small-1234.pth",
                    file="small.pth", **facts),
        )  # fmt: skip
        monkeypatch.setattr(hub, "RELEASES", rows)
        monkeypatch.setattr(hub, "_BY_ID", {row.id: row for row in rows})
        yield server


@pytest.fixture
def image(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)).save(
        tmp_path / "cat.png"
    )
    return "cat.png"


REPOSITORY_FILE = "/timm/small.x_in1k/resolve/main/model.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("id", ["timm/small.x_in1k", "torchvision/small.v1"])
def test_an_id_is_taken_wherever_a_weights_file_is(server, spec, command, image, id):
    done = command("predict", id, image, "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)[0]["classes"]) == 3
    assert "40 x 40 pixels" in done.stderr
    assert "licence ours" in done.stderr
    gets = len([one for one in server.requests if one[0] == "GET"])
    path = command("weights", "path", id).stdout.strip()
    assert command("predict", path, image, "--json").stdout == done.stdout
    wanted = flatten_dict(inception_jax.load(path), sep="/")
    network, variables = inception_jax.from_pretrained(id)
    assert network.num_classes == 1000
    assert all(
        np.array_equal(value, wanted[name])
        for name, value in flatten_dict(variables, sep="/").items()
    )
    assert weights.card(id).release == id
    assert weights.card(id).published == (
        {"top1": 0.7, "top5": 0.9, "known_by": "its id"} if id.startswith("timm") else {}
    )
    assert command("features", id, image, "--output", "f.npz").returncode == 0
    assert command("weights", "verify", id).returncode == 0
    assert command("verify", id).returncode == 0
    assert command("export", id, "--to", "safetensors", "--output", "e.safetensors").returncode == 0
    assert len([one for one in server.requests if one[0] == "GET"]) == gets


@pytest.mark.slow
def test_from_pretrained_takes_names_and_other_numbers_of_classes(server, capfd):
    network, variables = inception_jax.from_pretrained("small_of_hub", num_classes=7)
    said = capfd.readouterr().err
    assert "timm/small.x_in1k" in said  # the one with a published score
    assert "new for 7 classes are params/Logits/linear/bias, params/Logits/linear/kernel" in said
    assert network.apply(variables, np.zeros((1, 40, 40, 3), np.float32)).logits.shape == (1, 7)
    stem = inception_jax.load("timm/small.x_in1k")["params"]["Stem"]
    jax.tree.map(np.testing.assert_array_equal, variables["params"]["Stem"], stem)
    network, variables = inception_jax.from_pretrained("timm/small.x_in1k", num_classes=0)
    assert "Logits" not in variables["params"]
    with pytest.raises(ConfigError, match="no network with released weights"):
        inception_jax.from_pretrained("small_of_nothing")


@pytest.mark.slow
def test_a_timm_repository_outside_the_table_is_read_by_its_config(server, spec, command, image):
    names = [f"kind {i}" for i in range(7)]
    config = {
        "architecture": "small_of_hub", "num_classes": 7, "label_names": names,
        "pretrained_cfg": {
            "input_size": [3, 48, 48], "crop_pct": 0.9, "interpolation": "bicubic",
            "mean": [0.5] * 3, "std": [0.5] * 3, "license": "mit",
        },
    }  # fmt: skip
    folder = "/someone/small.flowers/resolve/main"
    server.files[f"{folder}/model.safetensors"] = save(arrays_of(spec, classes=7))
    server.files[f"{folder}/config.json"] = json.dumps(config).encode()
    done = command("predict", "hf-hub:someone/small.flowers", image, "--csv")
    assert done.returncode == 0, done.stderr
    assert ",kind " in done.stdout
    card = weights.card("hf-hub:someone/small.flowers")
    assert (card.data.image_size, card.data.test_crop_fraction) == (48, 0.9)
    assert (card.licence, card.source) == ("mit", "hf-hub:someone/small.flowers")
    config["architecture"] = "vit_base"
    server.files["/someone/vit/resolve/main/config.json"] = json.dumps(config).encode()
    server.files["/someone/vit/resolve/main/model.safetensors"] = b"x"
    done = command("predict", "hf-hub:someone/vit", image)
    assert (done.returncode, "vit_base, which this package lacks" in done.stderr) == (65, True), (
        done.stderr
    )
    done = command("predict", "hf-hub:someone/else", image)
    assert (done.returncode, "404" in done.stderr) == (65, True), done.stderr
    done = command("predict", "hf-hub:someone", image)
    assert (done.returncode, "OWNER/NAME" in done.stderr) == (78, True)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [403, 404, 500, "cut", "slow", "gone"])
@pytest.mark.parametrize("id", ["timm/small.x_in1k", "torchvision/small.v1"])
def test_a_server_that_fails_is_named_with_what_to_do(server, command, monkeypatch, id, fault):
    monkeypatch.setattr("inception_jax.weights.downloads.TIMEOUTS", (1, 1))
    quick = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", quick)  # between its six attempts
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(huggingface_hub.constants, name, 1)
    for path in (REPOSITORY_FILE, "/small-1234.pth"):
        server.faults[path] = fault
    if fault == "gone":
        server.shutdown()
        server.server_close()
    done = command("weights", "pull", id)
    assert done.returncode == 65, done.stderr
    assert f"{id} cannot be downloaded" in done.stderr
    assert f"inception-jax weights pull {id} --file FILE" in done.stderr
    if isinstance(fault, int):
        assert str(fault) in done.stderr
    assert not get_cached_path(hub.get_release(id)).exists()


@pytest.mark.slow
def test_an_interrupted_download_goes_on_where_it_ended(server, content, command, monkeypatch):
    monkeypatch.setattr("inception_jax.weights.downloads.CHUNK", 1000)
    server.faults["/small-1234.pth"] = "cut"
    assert command("weights", "pull", "torchvision/small.v1").returncode == 65
    server.faults.clear()
    assert command("weights", "pull", "torchvision/small.v1").returncode == 0
    ranges = [wanted for _, path, wanted in server.requests if path == "/small-1234.pth"]
    assert ranges[-1].startswith("bytes=")
    assert int(ranges[-1].removeprefix("bytes=").rstrip("-")) > 0
    card = weights.card("torchvision/small.v1")
    assert card.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("part", ["half of another file", "more than the file has"])
def test_a_wrong_part_of_a_download_is_not_taken(server, content, command, part):
    target = hub.get_cache_folder() / "weights/downloads/torchvision/small-1234.pth"
    target.parent.mkdir(parents=True)
    left = b"x" * (len(content) // 2 if part.startswith("half") else len(content) + 1)
    target.with_name("small-1234.pth.part").write_bytes(left)
    done = command("weights", "pull", "torchvision/small.v1")
    if part.startswith("half"):
        assert (done.returncode, "is not the published file" in done.stderr) == (65, True), (
            done.stderr
        )
        done = command("weights", "pull", "torchvision/small.v1")
    assert done.returncode == 0, done.stderr


def test_a_file_with_another_digest_is_refused_and_deleted(server, content, command):
    server.files["/small-1234.pth"] = content[:-1] + bytes([content[-1] ^ 1])
    done = command("weights", "pull", "torchvision/small.v1")
    assert done.returncode == 65
    wanted = hashlib.sha256(content).hexdigest()[:8]
    assert f"wanted is {wanted}" in done.stderr
    assert not [path for path in hub.get_cache_folder().rglob("*") if path.suffix == ".pth"]


def test_a_damaged_file_in_the_cache_of_the_hub_is_refused(server, content, command):
    assert command("weights", "pull", "timm/small.x_in1k").returncode == 0
    (blob,) = [path for path in (hub.get_cache_folder().parent / "hf").rglob("*/blobs/*")
               if path.stat().st_size == len(content)]  # fmt: skip
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = command("weights", "pull", "timm/small.x_in1k", "--again")
    assert (done.returncode, "is damaged" in done.stderr) == (65, True), done.stderr
    assert command("weights", "pull", "timm/small.x_in1k", "--again").returncode == 0


def test_a_copy_in_the_layout_of_the_hub_is_read_offline(server, content, command, monkeypatch):
    assert huggingface_hub.hf_hub_download(
        "timm/small.x_in1k", "model.safetensors", endpoint=server.address
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    requests = len(server.requests)
    assert command("weights", "pull", "timm/small.x_in1k").returncode == 0
    done = command("weights", "pull", "torchvision/small.v1")
    assert (done.returncode, "HF_HUB_OFFLINE is set" in done.stderr) == (65, True)
    place = hub.get_cache_folder() / "weights/downloads/torchvision/small-1234.pth"
    assert f"put small-1234.pth at {place}" in done.stderr
    place.write_bytes(content)  # as the message says
    assert command("weights", "pull", "torchvision/small.v1").returncode == 0
    assert len(server.requests) == requests


def test_a_local_copy_is_checked_like_a_download(server, content, command, tmp_path):
    (tmp_path / "copy").write_bytes(content)
    (tmp_path / "other").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    id = "torchvision/small.v1"
    assert command("weights", "pull", id, "--file", "other").returncode == 65
    assert command("weights", "pull", id, "--file", "missing").returncode == 65
    assert command("weights", "pull", id, "--file", "copy").returncode == 0
    assert (tmp_path / "copy").exists()
    assert not server.requests


def test_a_release_without_a_published_digest_keeps_that_of_its_first_download(
    server, content, command
):
    id = "torchvision/small.unhashed"
    assert command("weights", "pull", id).returncode == 0
    server.files["/small-1234.pth"] = content[:-1] + bytes([content[-1] ^ 1])
    done = command("weights", "pull", id, "--again")
    assert (done.returncode, "is not the first file of" in done.stderr) == (65, True)
    assert resolve_weights(id).exists()  # the first one stays


@pytest.mark.parametrize("row", ["torchvision/small.unhashed", "torchvision/small.archived"])
def test_a_first_download_that_is_no_weights_file_is_not_remembered(
    server, content, command, row, monkeypatch, tmp_path
):
    whole = make_archive(server, content, tmp_path, monkeypatch)
    path = "/small.tar.gz" if row.endswith("archived") else "/small-1234.pth"
    server.files[path] = b"<html>log in first</html>" * 100
    done = command("weights", "pull", row)
    assert (done.returncode, "is deleted" in done.stderr) == (65, True), done.stderr
    server.files[path] = whole if row.endswith("archived") else content
    assert command("weights", "pull", row).returncode == 0


def test_a_copy_of_a_repositorys_file_replaces_the_cache_and_is_told_to_be_unchecked(
    server, content, command, tmp_path, spec
):
    id, copy = "timm/small.x_in1k", tmp_path / "model.safetensors"
    doubled = {name: 2 * value for name, value in arrays_of(spec).items()}
    copy.write_bytes(save(doubled))
    done = command("weights", "pull", id, "--file", copy)
    assert done.returncode == 0, done.stderr
    assert "no digest is known here that tells it to be timm/small.x_in1k" in done.stderr
    assert weights.card(id).published["known_by"] == "the user's word"
    copy.write_bytes(content)
    done = command("weights", "pull", id, "--file", copy)
    assert (done.returncode, "is not the first file of" in done.stderr) == (65, True)
    assert command("weights", "pull", id, "--file", tmp_path / "nothing").returncode == 65


def test_a_file_that_is_not_what_its_row_says_is_refused(server, spec, command):
    server.files[REPOSITORY_FILE] = save({"fc.weight": np.zeros((1000, 20), np.float32)})
    done = command("weights", "pull", "timm/small.x_in1k")
    assert (done.returncode, "missing" in done.stderr) == (65, True), done.stderr
    server.files[REPOSITORY_FILE] = save(arrays_of(spec, classes=1001))
    done = command("weights", "pull", "timm/small.x_in1k")
    assert (done.returncode, "1001 classes" in done.stderr) == (65, True), done.stderr
    assert not get_cached_path(hub.get_release("timm/small.x_in1k")).exists()


def make_archive(server, content, tmp_path, monkeypatch):
    (tmp_path / "small.safetensors").write_bytes(content)
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "small.safetensors", "small.safetensors")
    row = Release(
        "torchvision/small.archived", "small_of_hub", url=f"{server.address}/small.tar.gz",
        file="small.tar.gz", member="small.safetensors", num_classes=1000, data=SHOWN,
    )  # fmt: skip
    monkeypatch.setitem(hub._BY_ID, row.id, row)
    server.files["/small.tar.gz"] = (tmp_path / "small.tar.gz").read_bytes()
    return server.files["/small.tar.gz"]


def test_a_file_is_taken_out_of_an_archive_that_is_whole(
    server, content, command, tmp_path, monkeypatch
):
    whole, id = make_archive(server, content, tmp_path, monkeypatch), "torchvision/small.archived"
    flipped = [
        whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :]
        for place in (len(whole) // 3, len(whole) // 2, len(whole) - 6)
    ]
    for damaged in (whole[:-100], whole[:-8], *flipped):
        server.files["/small.tar.gz"] = damaged
        done = command("weights", "pull", id)
        assert (done.returncode, "small.tar.gz cannot be read" in done.stderr) == (65, True), (
            done.stderr
        )
    server.files["/small.tar.gz"] = whole
    assert command("weights", "pull", id).returncode == 0


@pytest.mark.parametrize("text", ["Timm/Inception_v3.tv_in1k", "inception_v3.tv_in1k",
                                  "hf_hub:timm/inception_v3.tv_in1k"])  # fmt: skip
def test_an_id_that_is_almost_right_gets_the_nearest_ones(command, text):
    done = command("predict", text, "cat.png")
    assert (done.returncode, "timm/inception_v3.tv_in1k" in done.stderr) == (78, True), done.stderr
    with pytest.raises(ConfigError, match="near are"):
        inception_jax.from_pretrained(text)


def test_a_repository_that_asks_for_a_login_says_so(server, command):
    server.faults[REPOSITORY_FILE] = 401
    done = command("weights", "pull", "timm/small.x_in1k")
    assert (done.returncode, "set HF_TOKEN" in done.stderr) == (65, True), done.stderr


def test_a_cache_of_the_hub_that_cannot_be_written_is_named(server, command, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "file/hf"))
    done = command("weights", "pull", "timm/small.x_in1k")
    assert (done.returncode, "set HF_HOME" in done.stderr) == (78, True), done.stderr


def test_of_two_at_once_one_downloads_and_converts(server):
    release, found = hub.get_release("torchvision/small.v1"), []
    threads = [
        threading.Thread(target=lambda: found.append(pull_weights(release))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 3
    assert server.count("GET", "/small-1234.pth") == 1


def test_a_cache_that_cannot_be_written_is_named(server, command, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INCEPTION_JAX_CACHE", str(tmp_path / "file" / "cache"))
    done = command("weights", "pull", "torchvision/small.v1")
    assert (done.returncode, "set INCEPTION_JAX_CACHE" in done.stderr) == (78, True), done.stderr
    assert not server.requests


@contextmanager
def files_of_at_most(size):
    """Makes the system refuse to write more bytes to any file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("id", ["timm/small.x_in1k", "torchvision/small.v1"])
def test_a_full_disk_is_an_error_of_the_storage(server, content, command, id):
    with files_of_at_most(len(content) // 2):
        done = command("weights", "pull", id)
    assert done.returncode == 74, done.stderr
    assert command("weights", "pull", id).returncode == 0


def test_ids_are_told_from_paths(server, command, tmp_path, monkeypatch):
    assert is_release_id("timm/small.x_in1k")
    assert is_release_id("timm/unknown")
    assert not is_release_id("timm/small.safetensors")
    assert not is_release_id("runs/digits")
    assert not is_release_id("timm/folder/small.x_in1k")
    done = command("predict", "timm/small.x_in1", "x.png")
    assert (done.returncode, "near are timm/small.x_in1k" in done.stderr) == (78, True), done.stderr
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm/small.x_in1k").mkdir(parents=True)
    assert not is_release_id("timm/small.x_in1k")
    assert not server.requests


def test_the_list_of_releases_is_for_people_and_programs(server, command):
    lines = command("weights", "list", "*small*").stdout.splitlines()
    assert lines[0].split()[:3] == ["id", "network", "top-1"]
    assert lines[1].startswith("timm/small.x_in1k")
    (row,) = json.loads(command("weights", "list", "timm/*", "--json").stdout)
    assert (row["top1"], row["input"]["image_size"]) == (70.0, 40)
    done = command("weights", "list", "nothing")
    assert (done.returncode, "no release matches" in done.stderr) == (78, True)
    assert command("weights", "path", "timm/small.x_in1k").returncode == 65
    assert not server.requests


def test_a_failed_download_is_an_error_in_python_too(server):
    server.faults["/small-1234.pth"] = 404
    with pytest.raises(DataError, match="cannot be downloaded"):
        inception_jax.load("torchvision/small.v1")
