"""Versions of a stage's model: registered, approved, taken to the next stage, and whether the endpoint serves them."""
