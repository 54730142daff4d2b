"""Backbones, one a file: images to feature maps by stride."""
