"""SageMaker Pipelines: definitions that are read and checked, and executions that run their steps as jobs.

``operations`` answers the API, ``runner`` runs an execution; what they decide by is in the other modules, which do
nothing but compute.
"""
