"""What Muster knows of GPUs and models: rows of data, looked up by name or alias in any case.

`gpu` and `gpus` read gpus.yaml; `model`, `catalogued`, `models`, `checkpoint` and `checkpoint_of` read models.yaml;
`recovery` reads quality.yaml, the accuracy that number formats keep; `engine_options` reads engines.yaml. Every figure
there names its source.
"""

from planner.catalog.engines import engine_options
from planner.catalog.gpus import gpu, gpus
from planner.catalog.models import catalogued, checkpoint, checkpoint_of, model, models
from planner.catalog.quality import recovery

__all__ = ["catalogued", "checkpoint", "checkpoint_of", "engine_options", "gpu", "gpus", "model", "models", "recovery"]
