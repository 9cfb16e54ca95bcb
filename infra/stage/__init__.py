"""A stage as people write it: its file, what is wrong with it, what `-c` changes, and the names that follow from it."""
