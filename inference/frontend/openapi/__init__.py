"""What this server answers, as an OpenAPI 3.1 description: from its routes, its settings, its errors and the manifests
of the models that are loaded now. Nothing here answers a request for a prediction.
"""
