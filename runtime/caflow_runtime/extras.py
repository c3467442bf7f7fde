"""Help on extras, the optional parts of the installation, which the help texts of all commands end with."""

HOW_TO_INSTALL = "pip install 'caflow-deploy[NAME]' installs the extra NAME, an optional part of caflow-deploy."
"""Last line of a help text. The text before it names the extras that the command and its options require."""
