"""`python -m phaseseg.cli` is `phaseseg`."""

from phaseseg.cli import main

if __name__ == "__main__":
    main()
