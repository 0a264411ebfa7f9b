"""From a trained network to numbers that can be trusted."""
