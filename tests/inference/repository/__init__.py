"""The repository's own process: what a listing means, and what lies on the disk."""
