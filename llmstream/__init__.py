"""Unix filters that put a language model into a shell pipeline."""

__version__ = "0.1.0"
