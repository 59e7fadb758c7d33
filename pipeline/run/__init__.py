"""Who trains, and what of it is kept. This file imports nothing: the command line reads it before a verb needs torch."""


class Interrupted(Exception):  # noqa: N818 (a request, not an error)
    """Training was asked to stop and has saved where it was; the same command goes on from there."""
