"""Who trains, and what is kept. This file imports nothing, since the command line reads it before a verb needs torch."""

RUN = "run.json"  # key, name, status, step, seconds, processors, host, pid; the net's record once training has ended; images of a diverged batch
LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"  # the checkpoint before it, until the training is complete
CONFIG = "config.yaml"  # the configuration without `paths`, also among the run's artifacts
SERVED = "served.json"  # beside the weights, what MLflow's model of them needs, see `served`


class Interrupted(Exception):  # noqa: N818 (a request, not an error)
    """A signal stopped the training, which has saved a checkpoint; the same command goes on from there."""
