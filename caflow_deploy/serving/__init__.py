"""Servers: wrappers that run the service of the runtime in Ray Serve and in Triton."""
