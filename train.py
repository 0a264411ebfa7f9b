"""Train a network: `python train.py [CONFIG] [--field value ...]`; without arguments, real digits in minutes."""

import sys

from inception_jax.cli import entry

if __name__ == "__main__":
    entry(["train", *sys.argv[1:]])
