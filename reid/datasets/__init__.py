"""Data sets, one a file: folders of images to lists of records."""
