"""The verbs that do other work for detectors."""
