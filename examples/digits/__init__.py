"""Handwritten digits, led through all of AWS on this machine: train, deploy, ask, batch transform, tear down."""

NEEDS = ""
