"""Which models are loaded, with which limits."""
