"""The forms of a model: the same network for a faster engine, or with faster settings, each proved when it was made.

manifest.json ─▶ declaration ─▶ fitting (this machine?) ─▶ opening ─▶ choosing (the example is answered?) ─▶ served_form
"""
