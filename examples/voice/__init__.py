"""Speech is detected while somebody speaks: audio in, events out, on one connection."""

NEEDS = "the internet: 3 MB from PyPI"
