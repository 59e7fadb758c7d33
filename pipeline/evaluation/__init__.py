"""Classification errors and their confidence intervals."""
