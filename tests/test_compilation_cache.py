"""The cache of compiled programs: what it saves, where it lies, and that it stops no command."""

import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from PIL import Image

import inception_jax
from benchmarks.random_variables import variables
from benchmarks.small_networks import line_of
from inception_jax.cache_folder import CACHE_VARIABLE
from inception_jax.compilation_cache import (
    COMPILATION_CACHE_VARIABLE,
    format_platform_key,
    remove_least_recent,
    use_compilation_cache,
)
from inception_jax.config import Data, Model
from inception_jax.weights import files
from inception_jax.weights.cards import Card
from tests.conftest import ROOT

LOGGED = re.compile(r"compilation cache: (\d+) hits?, (\d+) miss(?:es)? \((.+)\)")
NO_JAX_FOLDER = {"JAX_COMPILATION_CACHE_DIR": ""}
"""The environment of a user, who unlike these tests has not set JAX's own folder."""


@pytest.fixture
def predict(tmp_path, process):
    """Returns the result of `inception-jax predict` on an image, in a process of its own."""
    network = inception_jax.create("mnist_bn", num_classes=10)
    card = Card(Model("mnist_bn"), Data(image_size=28), 10, tuple("abcdefghij"))
    files.save(tmp_path / "w.safetensors", card, variables(network))
    Image.fromarray(np.full((28, 28), 99, np.uint8)).save(tmp_path / "a.png")
    return lambda **environment: process("predict", "w.safetensors", "a.png", **environment)


@pytest.fixture
def jax_folder(tmp_path, monkeypatch):
    """Clears JAX's setting of its folder for one test, and the user's cache folder."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "user"))
    monkeypatch.delenv(COMPILATION_CACHE_VARIABLE, raising=False)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    reset_cache()


def compute(choice=None):
    """Compiles and runs a program as a new process would."""
    jax.clear_caches()

    def program_of_the_test(x):
        return x * 3 + 1

    with use_compilation_cache(choice):
        assert np.asarray(jax.jit(program_of_the_test)(np.ones(3, np.float32))).sum() == 12


def list_entries(root):
    return sorted(root.rglob("jit_program_of_the_test-*-cache"))


@pytest.mark.slow
def test_a_second_predict_takes_every_program_from_the_users_cache_folder(predict, tmp_path):
    environment = {**NO_JAX_FOLDER, CACHE_VARIABLE: str(tmp_path / "user")}
    first, second = predict(**environment), predict(**environment)
    folder = tmp_path / "user" / "compiled" / format_platform_key()
    (hits, misses, place), (hits_again, misses_again, _) = (
        LOGGED.search(done.stderr).groups() for done in (first, second)
    )
    assert (hits, place) == ("0", str(folder))
    assert (hits_again, misses_again) == (misses, "0")
    assert first.stdout == second.stdout != ""
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_the_variable_off_and_that_of_jax_end_the_cache(predict, tmp_path):
    for variable, value in (
        (COMPILATION_CACHE_VARIABLE, "off"),
        ("JAX_ENABLE_COMPILATION_CACHE", "false"),
    ):
        done = predict(**NO_JAX_FOLDER, **{CACHE_VARIABLE: str(tmp_path / "user"), variable: value})
        assert (done.returncode, done.stderr) == (0, "")
        assert not list(tmp_path.rglob("*-cache"))


@pytest.mark.slow
def test_a_full_disk_costs_a_line_and_leaves_no_cut_off_entry(predict, tmp_path):
    """Files end at 1 KB here, as on a disk that is full."""
    whole = predict(**NO_JAX_FOLDER, **{COMPILATION_CACHE_VARIABLE: "off"})
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 1; exec "$@"', "_", sys.executable, "-m", "inception_jax.cli",
         "predict", "w.safetensors", "a.png"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **NO_JAX_FOLDER,
             COMPILATION_CACHE_VARIABLE: str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, whole.stdout)
    assert done.stderr.count("cannot be written") == 1
    assert f"set {COMPILATION_CACHE_VARIABLE} to a folder that can be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert "UserWarning" not in done.stderr
    assert not list((tmp_path / "cache").rglob("*-cache"))


@pytest.mark.slow
def test_the_field_moves_the_cache_of_a_run(command, tmp_path):
    short = ("--steps", "1", "--batch-size", "8", "--data.test-split", "test[:8]")
    line = (*line_of("one"), *short, "--compilation-cache", "programs", "--workdir", "run")
    done = command("train", *line)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "programs" / format_platform_key()
    assert LOGGED.search(done.stderr)[3] == str(folder)
    assert list(folder.glob("jit_train_step-*-cache"))


def test_the_cache_ends_with_the_command_and_jax_has_its_own_settings_again(
    jax_folder, tmp_path, capsys
):
    names = [name for name in dir(jax.config) if "cache" in name]
    before = {name: getattr(jax.config, name) for name in names}
    compute()
    compute()
    found = LOGGED.findall(capsys.readouterr().err)
    assert [numbers[:2] for numbers in found] == [("0", "1"), ("1", "0")]
    assert len(list_entries(tmp_path / "user" / "compiled")) == 1
    assert {name: getattr(jax.config, name) for name in names} == before


def test_a_folder_that_jax_was_given_is_used_as_it_is(jax_folder, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    compute()
    assert [entry.parent for entry in list_entries(tmp_path)] == [tmp_path / "own"]
    compute("off")  # as `benchmark` measures how long compiling takes
    assert len(list_entries(tmp_path)) == 1


def test_several_processes_use_only_a_cache_that_is_given(jax_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    compute()
    assert not list_entries(tmp_path)
    compute(str(tmp_path / "shared"))
    assert len(list_entries(tmp_path / "shared" / format_platform_key())) == 1


def test_a_cut_off_entry_is_compiled_again_and_replaced(jax_folder, tmp_path, capsys):
    """A process that is killed while it writes leaves such an entry."""
    compute()
    (entry,) = list_entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    compute()
    compute()
    text = capsys.readouterr().err
    assert [numbers[:2] for numbers in LOGGED.findall(text)] == [("0", "1"), ("1", "0")]
    assert "Error reading" not in text


def test_a_folder_that_cannot_be_made_costs_a_line(jax_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    compute(str(tmp_path / "file" / "cache"))
    text = capsys.readouterr().err
    assert re.search(
        r"compilation cache: .*file/cache/\S+ cannot be made \(Not a directory\)", text
    )


def test_the_least_recently_used_programs_go_first_whatever_their_platform(tmp_path):
    for number, platform in enumerate(("old", "new", "old", "new")):
        entry = tmp_path / platform / f"jit_{number}-cache"
        entry.parent.mkdir(exist_ok=True)
        entry.write_bytes(bytes(100))
        os.utime(entry, (1000 + number, 1000))
    remove_least_recent(tmp_path, 250)
    assert sorted(entry.name for entry in tmp_path.rglob("*-cache")) == [
        "jit_2-cache",
        "jit_3-cache",
    ]
