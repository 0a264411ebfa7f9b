"""`inception-jax fid`: from two folders to a number, a file and a page."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.runs import free_port
from inception_jax.cli import main
from inception_jax.errors import ExitCode
from inception_jax.generative.statistics_file import read_statistics
from tests.conftest import ROOT
from tests.generative.samples import make_images, make_small_weights

COUNT = 30


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with weights, two sets as folders with classes, and one of them in other forms."""
    place = tmp_path_factory.mktemp("fid")
    make_small_weights(place / "small.safetensors")
    for kind in "AB":
        for index, image in enumerate(make_images(kind, COUNT, 32)):
            folder = place / kind / ("cat", "dog", "fox")[index % 3]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{index:03d}.png")
    np.savez(place / "B.npz", arr_0=make_images("B", COUNT, 32))
    return place


@pytest.fixture
def run(place, monkeypatch, capsys):
    monkeypatch.chdir(place)

    def run(*arguments):
        common = ["--weights", "small.safetensors", "--preset", "own", "--batch-size", "16"]
        code = main(["fid", *arguments, *common, "--engine", "xla"])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_number_its_interval_and_what_was_done_are_printed(run):
    code, out, err = run("A", "B", "--no-report")
    assert code == 0
    assert re.fullmatch(r"fid [\d.e-]+ \+- [\d.e-]+ \(bias [\d.e-]+, N 30 and 30\)\n", out)
    assert "preset own/1 (this package): resize antialias" in err
    assert "of no known release" in err
    assert "computing fid: Frechet Inception Distance" in err
    assert "A has 30 images for 100 features" in err


def test_the_json_has_scores_facts_and_notes_and_nothing_else_is_on_stdout(run):
    metrics = ("fid", "kid", "is", "pr", "dc", "class", "copies", "fid_infinity")
    code, out, _ = run("A", "B", "--metrics", *metrics, "--json", "--no-report")
    assert code == 0
    found = json.loads(out)
    assert found["preset"] == "own/1"
    assert found["sets"]["fake"]["num_images"] == COUNT
    assert found["sets"]["real"]["image_size"] == "32x32"
    assert set(found["scores"]) == {
        "fid", "kid", "inception_score", "precision", "recall", "density", "coverage",
        "classwise_fid", "conditional_fid", "authenticity", "memorisation_distance",
        "fid_infinity",
    }  # fmt: skip
    low, high = found["scores"]["fid"]["interval"]
    assert low < found["scores"]["fid"]["value"] < high


def test_a_folder_and_an_array_of_the_same_images_have_the_same_score(run):
    _, folder, _ = run("A", "B", "--no-report")
    _, array, err = run("A", "B.npz", "--no-report")
    assert folder.split()[1] == array.split()[1]
    code, out, err = run("B", "B.npz", "--no-report")
    assert code == 0
    assert out.startswith("fid 0 ")
    assert "fid: both sets have the same images" in err


def test_the_report_is_one_page_with_its_pictures(run, place):
    code, _, err = run("A", "B", "--output", "report")
    assert code == 0
    assert "report: report/index.html" in err
    names = {file.name for file in (place / "report").iterdir()}
    assert names == {
        "index.html", "scores.json", "real.png", "generated.png", "neighbours.png",
        "components.png", "fid_against_n.png",
    }  # fmt: skip
    page = (place / "report" / "index.html").read_text()
    assert page.count("data:image/png;base64") == 5
    assert "http" not in page
    assert json.loads((place / "report" / "scores.json").read_text())["preset"] == "own/1"


def test_statistics_stand_in_for_their_images(run, place):
    code, out, _ = run("statistics", "A", "--output", "A.stats.safetensors")
    assert code == 0
    assert out == "A.stats.safetensors: 30 images, 100 features, preset own/1\n"
    _, direct, _ = run("A", "B", "--no-report")
    code, out, _ = run("A.stats.safetensors", "B", "--no-report")
    assert code == 0
    assert out == direct
    assert read_statistics(place / "A.stats.safetensors").facts["set"] == "A"
    code, _, err = run("statistics", "A", "--output", "A.stats.safetensors")
    assert code == ExitCode.CONFIG
    assert "is there already, and stays as it is" in err


def test_the_preset_of_a_file_is_taken_where_none_is_given(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    common = ["--weights", "small.safetensors", "--engine", "xla"]
    main(["fid", "statistics", "A", "--preset", "own", "--output", "own.safetensors", *common])
    assert main(["fid", "own.safetensors", "B", "--no-report", *common]) == 0
    assert "preset own/1" in capsys.readouterr().err


def test_images_that_are_in_both_sets_are_told(run):
    code, _, err = run("A", "A/cat", "--no-report")
    assert code == 0
    assert "A/cat: 10 of its images are in A, pixel for pixel" in err


def test_statistics_of_other_weights_are_refused_before_images_are_read(run, place, capsys):
    make_small_weights(place / "other.safetensors", seed=1)
    common = ["--preset", "own", "--engine", "xla", "--weights", "other.safetensors"]
    assert main(["fid", "statistics", "A", "--output", "other.stats.safetensors", *common]) == 0
    capsys.readouterr()
    code, out, err = run("other.stats.safetensors", "B", "--no-report")
    assert code == ExitCode.CONFIG
    assert "different weights" in err
    assert out == ""


def test_several_sets_are_compared_with_one_reference(run, place):
    code, out, err = run("compare", "A", "B", "B.npz", "--output", "compared")
    assert code == 0
    assert "reference: A, the first set" in err
    lines = out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["B", "B.npz"]
    assert lines[0].split()[2] == lines[1].split()[2]
    assert {"index.html", "fid.png", "scores.json"} == {
        file.name for file in (place / "compared").iterdir()
    }


def test_a_random_part_is_that_of_edm(run, place):
    code, out, _ = run("A", "B", "--num", "12", "--seed", "3", "--no-report")
    assert code == 0
    assert "N 12 and 12" in out
    from inception_jax.commands.fid import _choose_images

    indices = np.arange(30)
    np.random.RandomState(3).shuffle(indices)
    assert _choose_images(30, 12, 3) == sorted(indices[:12].tolist())


def test_adms_batch_gives_fid_from_its_statistics_and_the_rest_from_its_images(run, place):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 100))
    np.savez(
        place / "adm.npz", arr_0=make_images("A", 12, 32), mu=rows.mean(0),
        sigma=np.cov(rows, rowvar=False),
    )  # fmt: skip
    code, out, err = run("adm.npz", "B", "--metrics", "fid", "pr", "--no-report", "--json")
    assert code == 0
    found = json.loads(out)["scores"]
    assert found["fid"]["num_real"] is None
    assert found["recall"]["num_real"] == 12
    assert "FID is of its mu and sigma, and all else of its 12 images" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("A", "nowhere"), ExitCode.CONFIG, "nowhere is not there"),
        (("A", "B", "--metrics", "fld"), ExitCode.CONFIG, "there is no metric 'fld'"),
        (("A", "B.npz", "--metrics", "class"), ExitCode.DATA, "B.npz has no labels"),
        (("A", "B", "--num", "31"), ExitCode.DATA, "A has 30 images, and --num asks for 31"),
        (("A", "B", "--kid", "some"), ExitCode.CONFIG, "there are subsets, blocks and all"),
        (
            ("A", "B", "--metrics", "kid", "--kid-subset-size", "40"),
            ExitCode.DATA,
            "subsets of 40 images, and a set has 30",
        ),
        (("compare", "A"), ExitCode.CONFIG, "there is nothing to compare"),
        (("compare", "A", "B", "B"), ExitCode.CONFIG, "a set is given twice"),
        (("A", "B", "--kid-subset-size", "1"), ExitCode.CONFIG, "have a size, from 2 on"),
        (("A", "B", "--kid", "all", "--kid-subset-size", "9"), ExitCode.CONFIG, "random subsets"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_network_is_loaded(
    run, arguments, code, message
):
    found, out, err = run(*arguments, "--no-report")
    assert found == code
    assert message in err
    assert out == ""
    assert "preset own/1 (" not in err


def test_what_a_file_of_statistics_would_lack_is_refused(run):
    code, _, err = run("statistics", "A", "--output", "k.safetensors", "--metrics", "kid")
    assert code == ExitCode.CONFIG
    assert "--keep-features" in err


def test_a_report_that_could_not_be_written_is_refused_at_once(run, place):
    code, out, err = run("A", "B", "--output", "B.npz")
    assert code == ExitCode.CONFIG
    assert "B.npz is a file: name a folder" in err
    assert out == ""


def test_sets_of_two_presets_are_compared_only_anyway(run, place, capsys):
    run("statistics", "A", "--output", "own.stats.safetensors")
    common = ["fid", "own.stats.safetensors", "own.stats.safetensors", "--no-report"]
    assert main(common) == 0
    common += ["--preset", "torch-fidelity"]
    assert main(common) == ExitCode.CONFIG
    assert "different preset own/1 and torch-fidelity/1" in capsys.readouterr().err
    assert main([*common, "--anyway"]) == 0
    assert capsys.readouterr().out.startswith("fid 0 ")


def test_statistics_of_another_program_need_a_preset(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    rows = np.random.default_rng(0).normal(size=(400, 100))
    np.savez(place / "theirs.npz", mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    assert main(["fid", "theirs.npz", "theirs.npz", "--no-report"]) == ExitCode.CONFIG
    assert "name the program that made it with --preset" in capsys.readouterr().err
    assert main(["fid", "theirs.npz", "theirs.npz", "--no-report", "--preset", "adm"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "fid 0 (N ? and ?)\n"
    assert "statistics of unknown origin, taken as of adm/1" in shown.err


@pytest.mark.slow
def test_two_processes_score_as_one_does_and_one_of_them_prints(run, place):
    _, alone, _ = run("A", "B", "--metrics", "fid", "kid", "pr", "--no-report")
    port = free_port()
    line = [
        sys.executable, "-m", "inception_jax", "fid", "A", "B", "--metrics", "fid", "kid", "pr",
        "--weights", "small.safetensors", "--preset", "own", "--batch-size", "16", "--no-report",
    ]  # fmt: skip
    running = [
        subprocess.Popen(
            line, cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={
                **os.environ, "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(i), "PYTHONPATH": str(ROOT),
            },
        )
        for i in range(2)
    ]  # fmt: skip
    found = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], found
    lines = [
        line
        for line in found[0][0].splitlines()
        if line.split()[0] in ("fid", "kid", "precision", "recall")
    ]
    expected = alone.splitlines()
    assert len(lines) == len(expected) == 4
    for own, other in zip(lines, expected, strict=True):
        assert own.split()[0] == other.split()[0]
        assert float(own.split()[1]) == pytest.approx(float(other.split()[1]), rel=1e-4)
        assert own.split("N ")[1] == other.split("N ")[1]
    assert "fid " not in found[1][0]
