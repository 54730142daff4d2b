"""reid: train a person matcher on one domain, test it on others, and trust the numbers."""
