"""Shared code of the commands: options, exit codes, the loop over the frames of a file, printing.

Results go to standard output, everything else to standard error. Exit codes: 0 success, 1 failure (disk full,
missing package), 2 bad usage, 3 bad input, 130 interrupted. NumPy and other slow imports are inside
functions, so that `--help` is fast.
"""
