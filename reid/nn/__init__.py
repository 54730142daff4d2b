"""Blocks that several matchers share and that have no paper of their own."""
