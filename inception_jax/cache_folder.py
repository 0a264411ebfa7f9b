"""The user's cache folder, for downloaded weights and compiled programs."""

import os
from pathlib import Path

CACHE_VARIABLE = "INCEPTION_JAX_CACHE"


def get_cache_folder() -> Path:
    """Returns the cache folder: `INCEPTION_JAX_CACHE`, else the system's for this user.

    It need not exist.
    """
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(os.path.expanduser(given))  # Path.expanduser fails for an unknown user
    from platformdirs import user_cache_path

    return user_cache_path("inception_jax")
