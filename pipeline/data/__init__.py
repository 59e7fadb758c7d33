"""Data sets: fetched, kept in one canonical store each, and fed to training in an order that a seed decides."""
