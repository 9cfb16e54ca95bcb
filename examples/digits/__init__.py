"""Handwritten digits, from training to batch transform."""
