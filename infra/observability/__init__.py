"""What is watched of a stage.

`metrics` says what each mode emits; `endpoint_alarms`, `workflow_alarms` and `dashboard_plan` choose from it. They are
plain values and know nothing of the CDK; `alarms`, `dashboard` and `topic` make resources of them.
"""
