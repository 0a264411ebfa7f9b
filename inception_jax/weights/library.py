"""Optional libraries, which read formats of other projects."""

import importlib
from typing import Any

from inception_jax.config import ConfigError


def load_library(name: str, extra: str) -> Any:
    """Returns the module `name`.

    Raises:
      ConfigError: It is not installed; the message names the extra that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"this needs {name} ({error}): pip install 'inception-jax[{extra}]'"
        ) from error
