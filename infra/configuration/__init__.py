"""What a stage decides, as frozen values. Each module is one subject of the stage file, `stage` is the whole of it.

Each value is checked by itself when it is made; `infra.validation` says whether they can be deployed together.
"""

from __future__ import annotations

from tidegate.infra.configuration.stage import Stage as Stage
from tidegate.infra.configuration.value import ConfigurationError as ConfigurationError
