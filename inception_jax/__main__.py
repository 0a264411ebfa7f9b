"""`python -m inception_jax`: the command `inception-jax`."""

from inception_jax.cli import entry

if __name__ == "__main__":
    entry()
