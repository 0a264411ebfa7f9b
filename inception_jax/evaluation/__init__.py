"""Evaluation of a trained network: exact scores, protocols, population statistics, features."""
