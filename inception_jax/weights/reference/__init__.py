"""Comparison of converted networks with those of the projects they come from."""
