"""The commands of `caflow`, one file each. Heavy imports wait until a command runs."""
