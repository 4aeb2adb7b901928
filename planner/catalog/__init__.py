"""What Muster knows of GPUs and models: rows of data, looked up by name or alias in any case.

`gpu` and `gpus` read gpus.yaml; `model` and `models` read models.yaml; `recovery` reads quality.yaml, the accuracy that
number formats keep. Every figure there names its source.
"""

from planner.catalog.gpus import gpu, gpus
from planner.catalog.models import model, models
from planner.catalog.quality import recovery

__all__ = ["gpu", "gpus", "model", "models", "recovery"]
