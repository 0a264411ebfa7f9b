"""The training loop, and the states it starts from."""
