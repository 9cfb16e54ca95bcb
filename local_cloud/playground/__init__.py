"""The playground of the local cloud: its page at ``/playground`` of SageMaker's port, and what that page may ask."""
