"""The endpoint: what a request may hold, how one row is scored, the server that does it, and clients of it.

`client` and `server` are what other code uses; the rest runs inside the server's workers.
"""
