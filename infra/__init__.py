"""What `cdk deploy` creates: a bucket, an image registry and a SageMaker endpoint, once per stage.

The files to edit are in `stages/`. `python -m infra` is the CDK app that cdk.json names.
"""
