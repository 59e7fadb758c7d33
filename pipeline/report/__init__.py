"""The report: what was measured, how sure it is, what the paper says, and how to make it again.

`inputs` is what a report is made of, `page.build_report` makes it, `summary.summary_table` is its terminal form.
"""
