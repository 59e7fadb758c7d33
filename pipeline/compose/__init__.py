"""conf/, params.yaml and the command line become one configuration; the only user of Hydra."""

from pipeline.compose.choices import CHOICES, GROUPS, SHORT, choices
from pipeline.compose.conf import compose, compose_conf
from pipeline.compose.overrides import as_sweep
from pipeline.compose.params import AUTO, require_no_lost_value
