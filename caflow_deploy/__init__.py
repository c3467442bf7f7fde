"""caflow-deploy: CAFLOW models in production. Importing it loads nothing heavy."""

__version__ = "0.1.0"
