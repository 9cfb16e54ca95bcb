"""What `cdk deploy` creates: a bucket, an image registry and a SageMaker endpoint, once per stage.

`stages.py` is the file to edit. `python -m infra` is the CDK app that cdk.json names.
"""
