"""Train a network: `python train.py [CONFIG] [--field value ...]`; without arguments, real digits in minutes."""

import sys

from inception_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
