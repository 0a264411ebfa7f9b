"""Trained networks in forms that run without this package. Nothing that trains imports this."""
