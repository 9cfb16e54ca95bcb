"""Boxes around the shapes in pictures of any size, which share one call of the network on the server."""

NEEDS = ""
