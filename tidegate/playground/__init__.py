"""The playground: one page that asks a model from a browser, for the server and for the local cloud.

It imports neither of them. Each serves the page at ``/playground`` and answers what it asks for below that path.
"""
