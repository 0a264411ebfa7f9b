"""Comparison with other projects' own networks."""
