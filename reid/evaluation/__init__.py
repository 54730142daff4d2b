"""From states and a score function to ranks and metrics; knows no model."""
