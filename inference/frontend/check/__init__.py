"""`check`: a model loaded as a server would load it, looked into, and reported to its deployer."""
