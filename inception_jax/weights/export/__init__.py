"""Exports of a trained network to other formats, verified before they are kept."""
