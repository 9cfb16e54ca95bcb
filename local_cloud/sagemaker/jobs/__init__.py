"""Training, processing and tuning jobs: real processes with an `/opt/ml` of their own, fed from S3 and emptied into it.

A room for each kind of job holds its plain state, and a module `…_run` does the work of one. What all share: `hosts`
and `runners` start a command, `channel_data` brings its input, `job_output` reads what it writes, `artifacts` and
`folder_sync` take away what it leaves.
"""
