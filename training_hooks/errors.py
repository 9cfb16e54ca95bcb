"""What can go wrong while an artifact is written, packed or resumed: one class, one sentence."""


class ArtifactError(ValueError):
    """The model, its description or a directory cannot become (or is not) a valid artifact.

    The text is one sentence that names the parameter, label, file or directory concerned.
    """
