"""Samplers, one a file: which images make a batch."""
