"""Orchestration: each service takes its ports as arguments and knows no MLflow, no Delta and no pytest."""
