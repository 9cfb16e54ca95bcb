"""What a model repository promises, measured: `python -m benchmarks.repository`."""
