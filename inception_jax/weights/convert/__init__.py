"""Conversion of arrays between other projects and this package."""
