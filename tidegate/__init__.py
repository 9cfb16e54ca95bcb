"""The product's own name: its command line, and what keeps a user's `inference.py` from being taken for ours."""
