"""Where backbone and matcher meet: training, extraction, checkpoints."""
