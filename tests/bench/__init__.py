"""Figures beside their bounds: `make bench`."""
