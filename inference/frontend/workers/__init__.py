"""The worker processes: forked, watched, replaced."""
