"""Console, standard streams, stops and errors of the commands: `caflow`, `caflow-train` and `caflow-export`."""
