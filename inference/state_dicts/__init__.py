"""Weights by name, on their way from a file into a network: what a worker and a library have in common."""
