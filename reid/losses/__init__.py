"""Losses, one a file: states and scores of a batch to a scalar."""
