"""A small SageMaker of our own: control plane, runtime and batch transform, with plain state, that really runs things.

The road of a call, one module per stop (a short InvokeEndpoint goes without a thread: :mod:`.http_front`)::

    http_server ─▶ service ─┬▶ wire ▶ shapes ▶ capabilities ▶ control_plane ─┬▶ endpoints ▶ replica ▶ container
                            │                                                └▶ transform_job ▶ records
                            └▶ runtime ──▶ endpoints (pick a variant) ──▶ container_client

What is honoured, what is only stored and what is refused is decided in one table: :mod:`.capabilities`.
"""
