"""Measurements of speed and of faults, and what they share with the tests."""
