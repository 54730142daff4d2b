"""Protocols, one a file: named lists of what is trained on and what is tested."""
