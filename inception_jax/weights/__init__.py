"""Trained networks in forms that others read. Nothing that trains imports this."""
