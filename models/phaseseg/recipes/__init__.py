"""How the bundled data, checkpoints and cards are made: `python -m phaseseg.recipes.<family>.<step>`."""
