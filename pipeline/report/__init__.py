"""The report: measured results with their uncertainty, the paper's claims, and the commands that repeat the experiment.

`inputs` holds the values, `page.build_report` writes the report, `published` keeps results in git.
"""
