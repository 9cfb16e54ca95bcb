"""The image: how it is built, and what runs in it first."""
