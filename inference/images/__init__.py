"""Pixels without a server: data URIs, palettes, reading and writing of images, and what a manifest declares of them."""
