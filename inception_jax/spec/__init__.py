"""The description of a network: its vocabulary, its geometry and the counts of a table.

This package uses the standard library only, so a network can be listed, measured and compared
without JAX.
"""
