"""What a network is: the vocabulary, its geometry, and what can be read off a table without running it.

Standard library only: a network can be listed, measured and compared where JAX is not installed.
"""
