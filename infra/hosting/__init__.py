"""Endpoints: a plan of plain values for each word that `[hosting] mode` may be, and one construct that renders it."""
