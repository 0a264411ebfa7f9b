"""The command `inception-jax`, as `python -m inception_jax`."""

from inception_jax.cli import entry

if __name__ == "__main__":
    entry()
