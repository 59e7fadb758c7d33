"""Accelerations. Each changes no more than rounding and goes by deleting its file and its one call."""
