"""Sentences become vectors by all-MiniLM-L6-v2, and the nearest is found."""

NEEDS = "the internet: 100 MB from PyPI"
