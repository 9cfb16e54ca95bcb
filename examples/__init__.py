"""Complete models that a reader can run and copy."""
