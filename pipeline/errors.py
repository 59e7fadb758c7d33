"""Errors that a user can mend. The command line prints them as one sentence; any other error is a defect of this project."""

from __future__ import annotations


class PipelineError(ValueError):
    """One sentence for the user: what was given, what is allowed, what to do."""


class MissingError(PipelineError, FileNotFoundError):
    """A file or a run that an earlier command makes is not there; the sentence names the command."""
