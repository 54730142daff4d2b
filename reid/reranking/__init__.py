"""Better rankings from the first one: what the neighbours of query and gallery images say. Knows no model."""
