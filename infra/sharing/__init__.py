"""A stage whose image and models another account deploys: what the policies of its resources let that account do.

stage file: shared_with ─▶ statements ─▶ repository, bucket, key, model package group
"""
