"""Archives that other tools wrote: MLflow's, and what `save_pretrained` of transformers leaves.

Each is served by the library that wrote it, which the archive's own requirements bring, and is asked as that library's
own server is.
"""
