"""A cloud that remembers: what `up --keep` writes to the state directory, and what the next `up` reads from it.

Everything but the objects of S3 is one picture of one moment (`snapshot_file`, made by `memory` from what `moto_state`
and SageMaker hand over, pickled by `plain`). Objects are files with a log of what became of each (`kept_objects`). An
answer to a change is given when the change is on disk (`moto_calls`, `memory`); what was begun and never answered
stands in the `journal`. `remembrance` puts it all together. The reasons: docs/decisions/0020-a-picture-and-a-log.md.
"""
