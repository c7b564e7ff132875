"""The glass transition in the structural metrics: regression, tests, findings and a report."""
