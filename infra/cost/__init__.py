"""What a stage will cost in a month: `usage` says how much of what it takes, `prices` what one of it costs.

No price is written in this package. They come from a file that its user vouches for, and where that has none, there is
no number.
"""
