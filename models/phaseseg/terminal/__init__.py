"""What words of the command line share: options, exit codes, the loop over the frames of a file, printing.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 a failure (disk full,
missing package), 2 bad usage, 3 bad input, 130 interrupted. NumPy and everything heavy is imported inside
functions, so that `--help` is quick.
"""
