"""The model repository's own process: lists a folder or a bucket, and brings versions to this machine's disk."""
