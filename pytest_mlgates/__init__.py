"""Release gates, promotion, drift and the retraining loop of a model registry, as pytest."""

__version__ = "0.1.0"
