"""Alerts: rules over the drift metrics, messages to people and machines, and the receiver that starts a retraining."""
