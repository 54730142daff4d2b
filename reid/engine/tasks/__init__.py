"""Training tasks: what one step does."""
