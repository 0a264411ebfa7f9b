"""Recipes: finding one by name or path, and reading what it says."""

import difflib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
import types
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from inception_jax.config import ConfigError, Experiment
from inception_jax.old_names import read_variable

FOLDERS = [Path(__file__).parent / "configs", Path(__file__).parent.parent / "configs"]
"""Folders of recipes: inside a wheel, and next to the package in a checkout."""


class Recipe(NamedTuple):
    """The contents of a recipe file.

    Attributes:
      name: Name of the file, with the number of an ensemble's member.
      description: The file's docstring.
      config: The configuration.
      assumptions: Field -> reason for its value, where the source of the recipe publishes none.
    """

    name: str
    description: str
    config: Experiment
    assumptions: Mapping[str, str] = MappingProxyType({})


MEMBER = re.compile(r"(.+):(\d+)")
"""Form of a member's name: `inception_v3_ensemble:2` is the second member of an ensemble."""


def load_recipe(name: str) -> Recipe:
    """Returns a recipe: the path of a Python file, a name in `configs/`, or `package.module`.

    A file that sets `members` is the recipe of an ensemble; `NAME:2` is its second member.

    Raises:
      ConfigError: There is none, it sets no `config`, or it is an ensemble and `name` has no
        member.
    """
    of = MEMBER.fullmatch(name)
    title, module = _read(of[1] if of else name)
    experiments = getattr(module, "members", ())
    if experiments and (not of or not 1 <= int(of[2]) <= len(experiments)):
        raise ConfigError(
            f"{name}: this is an ensemble of {len(experiments)}; name a member, {title}:1 to "
            f"{title}:{len(experiments)}"
        )
    if of and not experiments:
        raise ConfigError(f"{name}: {title} is one recipe and has no members")
    config = experiments[int(of[2]) - 1] if of else getattr(module, "config", None)
    if not isinstance(config, Experiment):
        raise ConfigError(
            f"{name}: a recipe sets `config` to an inception_jax.config.Experiment, and this one "
            f"is {config!r}"
        )
    return Recipe(
        f"{title}/{of[2]}" if of else title,
        (module.__doc__ or "").strip(),
        config,
        read_variable(module, "assumptions", {}),
    )


def list_recipe_members(name: str) -> list[str]:
    """Returns the recipes to train for `name`: an ensemble's members, or itself."""
    if MEMBER.fullmatch(name):
        return [name]
    count = len(getattr(_read(name)[1], "members", ()))
    return [f"{name}:{i}" for i in range(1, count + 1)] or [name]


def _read(name: str) -> tuple[str, types.ModuleType]:
    """Returns the title and the module of a recipe's file."""
    paths = [Path(name), *(folder / f"{name}.py" for folder in FOLDERS)]
    path = next((path for path in paths if path.suffix == ".py" and path.is_file()), None)
    try:
        if (
            path is None and "." not in name and name not in sys.modules
        ):  # any word may be a module: `this` prints a poem
            raise ImportError("neither a file nor package.module")
        module = (
            _module_of(path.resolve(), path.stat().st_mtime_ns)
            if path
            else importlib.import_module(name)
        )
    except ConfigError:
        raise
    except (ImportError, ValueError) as error:
        if path is not None:
            raise ConfigError(
                f"the recipe {path} imports what is not there ({error}): install it, or mend the "
                "recipe"
            ) from error
        known = list_recipes()
        near = difflib.get_close_matches(name, known, n=1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"there are {', '.join(known)}; or give the path of a Python file"
        )
        raise ConfigError(f"no recipe {name!r} ({error}); {hint}") from error
    return path.stem if path else name.rpartition(".")[2], module


def list_recipes() -> list[str]:
    """Returns the names of the recipes in `configs/`, without the shared `recipes.py`."""
    return sorted({file.stem for folder in FOLDERS for file in folder.glob("*.py")} - {"recipes"})


@lru_cache
def _module_of(path: Path, changed: int) -> types.ModuleType:
    """Imports a file as a module of a package made of its folder.

    `from .recipes import ...` then works. The file runs once, since it may register a network, and
    again if it was `changed`.
    """
    folder = types.ModuleType(
        f"_inception_jax_recipes_{hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:12]}"
    )
    folder.__path__ = [str(path.parent)]
    sys.modules[folder.__name__] = folder
    spec = importlib.util.spec_from_file_location(f"{folder.__name__}.{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, ConfigError):
        raise
    except (Exception, SystemExit) as error:  # whatever a user's file raises
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        line = (
            error.lineno
            if isinstance(error, SyntaxError)
            else frames[-1].lineno
            if frames
            else None
        )
        where = f"{path}, line {line}" if line else str(path)
        raise ConfigError(
            f"the recipe cannot be read: {where}: {type(error).__name__}: {error}; mend it there"
        ) from error
    return module
