"""Shortlists from galleries that are too large to compare every pair: vector indices."""
