"""The shipped load test: Locust's users, a script, and the gate."""
