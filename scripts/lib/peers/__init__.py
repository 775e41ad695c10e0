"""The peers of `harness bench`, by what they read."""
