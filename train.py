"""Trains a network: `python train.py [RECIPE] [--field value ...]`; by default on real digits."""

import sys

from inception_jax.cli import entry

if __name__ == "__main__":
    entry(["train", *sys.argv[1:]])
