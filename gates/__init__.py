"""The shipped suite: one module per gate."""
