"""A regression on a table of patients: CSV in, CSV out, by an ONNX form that is proved to answer alike."""

NEEDS = ""
