"""The model side: one process for each copy of a model. Never imports the HTTP server.

Everything of ours that a worker needs is imported before user code is, and nothing lazily after: from then on the
name `inference` belongs to the user's own `code/inference.py`, because its helper modules import it.
"""
