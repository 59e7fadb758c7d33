"""From published bytes to the canonical store of a data set."""
