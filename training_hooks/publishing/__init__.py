"""Models into a repository, a folder or a bucket, from which running servers take them."""
