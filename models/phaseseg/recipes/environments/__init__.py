"""What is measured on data sets for force fields: clusters, coverage and fits."""
