"""The two reference models: synthetic slot revenue (regression) and real mortgage applications (binary, regulated)."""
