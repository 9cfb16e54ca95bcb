"""Endpoints: one construct for each word that `[hosting] mode` may be, and a file for each thing that they share."""
