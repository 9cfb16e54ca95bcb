"""One run in an account that settles what AWS's documentation leaves open, and a report of it that can be kept.

stage file ─▶ what would be made ─▶ yes ─▶ deploys of stacks of its own, and what was seen ─▶ answers ─▶ report
                                             └──── whatever happens: everything is deleted again ◀────┘
"""
