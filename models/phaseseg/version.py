"""The version of the package, which the wheel and the pages take from here."""

__version__ = "0.2.0"
