"""The model registry: the only room that imports MLflow."""
