"""Computations worth more than one back end."""
