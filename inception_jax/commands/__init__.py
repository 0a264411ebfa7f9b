"""The commands of `inception-jax`: one module each, with a function of the command's name."""
