"""Matchers, one a file: feature maps to states, states to scores."""
