"""The stacks: one file for each unit that `cdk deploy` creates, and the base that they share."""
