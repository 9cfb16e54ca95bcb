"""The documentation as a site that needs no server: `make docs`."""
