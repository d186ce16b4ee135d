"""What may move where (`machine`) and when it may (`policy`): pure, no I/O."""
