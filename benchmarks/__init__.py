"""Speed and memory, each against a frozen reference in the same process; ``python -m benchmarks NAME``."""
