"""What `inception-jax` can do: a module for each command, whose function of the command's name takes the rest of the line."""
