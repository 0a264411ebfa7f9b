"""A thousand malformed lines and workdirs: a documented exit code, never a traceback, never a
changed file.
"""

import dataclasses
import json
import random
import shutil
import subprocess
import sys

import pytest

from benchmarks.runs import ROOT
from inception_jax.cli import main
from inception_jax.config import Experiment, to_json
from inception_jax.recipes import load_recipe
from tests.tiers import sweep

CODES = {2, 65, 74, 78}
"""Usage, data, storage, configuration."""
JUNK = [
    "", " ", "-1", "-0.5", "nan", "inf", "-inf", "1e400", "99999999999999999999", "0", "None",
    "true", "[]", "{}", "x" * 5000, "a\0b", "é€", "../../etc", "1,2", "0x10", "'", '"', "--", "-",
    "3.7", "NaN", "a b", "\n", "%s", "$(id)", "null",
]  # fmt: skip
COMMANDS = [
    "train",
    "train",
    "train",
    "evaluate",
    "predict",
    "plan",
    "report",
    "compare",
    "replay",
    "models",
    "data",
    "export",
]


def fields(section=Experiment(), prefix=""):
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields(value, f"{prefix}{field.name}.")
        else:
            yield f"--{prefix}{field.name}".replace("_", "-")


FIELDS = list(fields())
NOWHERE = ["--data.name", "folder", "--data.directory", "/nowhere/at/all"]
"""So that a line that happens to be legal ends, with 65, before it trains."""


def line(rng):
    """A malformed line of a random command."""
    command = rng.choice(COMMANDS)
    junk = [
        rng.choice([*JUNK, *FIELDS, "digits", "--json", "--help-me", "show", "check"])
        for _ in range(rng.randrange(4))
    ]
    if command in ("train", "plan"):
        given = [
            part
            for _ in range(rng.randrange(1, 4))
            for part in (rng.choice(FIELDS), rng.choice(JUNK))
        ]
        return [
            command,
            rng.choice(["digits", "digits", "bn_x5", "nothing", "configs/none.py"]),
            *given,
            *junk[:1],
            *NOWHERE,
        ]
    if command in ("evaluate", "predict", "report", "compare", "replay", "export"):
        return [command, "nowhere", *junk]
    if command == "models":
        return ["models", "no-such-model", *junk]
    return [
        "data",
        rng.choice(["show", "check", "prepare", "benchmark", "nothing"]),
        "nowhere",
        *junk,
    ]


def spoiled(rng, text):
    """JSON that is not what it was."""
    kind = rng.randrange(6)
    if kind == 0:
        return text[: rng.randrange(len(text))]
    if kind == 1:
        place = rng.randrange(len(text))
        return text[:place] + rng.choice(JUNK) + text[place + rng.randrange(1, 20) :]
    if kind == 2:
        return rng.choice(JUNK)
    value = json.loads(text)
    section, name = value, ""
    while isinstance(section, dict) and section:
        name = rng.choice(list(section))
        if not isinstance(section[name], dict):
            break
        section = section[name]
    if kind == 3:
        del section[name]
        section[f"{name}x"] = 1
    else:
        section[name] = rng.choice(
            [None, -1, "x", [], {}, 1e308, True, [[[]]], {"a": {"b": 1}}, "9" * 400]
        )
    return json.dumps(value)


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def code_of(arguments):
    try:
        return main(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 2


@pytest.mark.parametrize("hundred", sweep(range(7), [0]))
def test_malformed_commands_end_with_a_documented_code_and_write_nothing(
    hundred, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(hundred)
    for _ in range(100):
        arguments = line(rng)
        assert code_of(arguments) in CODES, arguments
        assert "Traceback" not in capsys.readouterr().err, arguments
        assert contents(tmp_path) == {}, arguments


@pytest.mark.parametrize("hundred", sweep(range(3), [0]))
def test_commands_on_malformed_workdirs_end_with_a_documented_code(
    hundred, tmp_path, monkeypatch, capsys
):
    """`experiment.json`, `run.json` and `metrics.jsonl` of a run, spoiled one at a time, and read
    by every command that reads them.
    """
    monkeypatch.chdir(tmp_path)
    rng = random.Random(1000 + hundred)
    rows = [
        {"step": 1, "train/loss": 2.0},
        {"step": 1, "val/top1": 0.5, "val/top5": 0.9, "val/loss": 1.0},
    ]
    whole = {
        "experiment.json": json.dumps(to_json(load_recipe("digits").config)),
        "run.json": json.dumps(
            {"attempts": [{"began": "", "ended": None, "outcome": None, "jax": "1"}]}
        ),
        "metrics.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
    }
    for _ in range(100):
        workdir = tmp_path / "run"
        shutil.rmtree(workdir, ignore_errors=True)
        workdir.mkdir()
        hurt = rng.choice(list(whole))
        for name, text in whole.items():
            if name != hurt:
                (workdir / name).write_text(text)
            elif hurt == "metrics.jsonl":
                first, second, _ = text.split("\n")
                (workdir / name).write_text(
                    rng.choice(
                        [f"{spoiled(rng, first)}\n{second}\n", f"{first}\n{spoiled(rng, second)}\n"]
                    )
                )
            else:
                (workdir / name).write_text(spoiled(rng, text))
        lines = [
            ["evaluate", "run"],
            ["compare", "run", "run"],
            ["report", "run"],
            ["train", "digits", "--workdir", "run", *NOWHERE],
        ]
        for arguments in lines:
            before = contents(tmp_path)
            code = code_of(arguments)
            assert code in CODES | {0}, (arguments, hurt, (workdir / hurt).read_text()[:300])
            assert "Traceback" not in capsys.readouterr().err
            if code:
                assert contents(tmp_path) == before, arguments


@pytest.mark.nightly
def test_train_py_ends_with_a_documented_code_on_malformed_arguments(tmp_path):
    rng = random.Random(99)
    for _ in range(20):
        arguments = [part for part in line(rng) if "\0" not in part]
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *arguments[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode in CODES, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert contents(tmp_path) == {}
