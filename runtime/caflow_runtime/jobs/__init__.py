"""Many files, and one folder of results that the same command resumes."""
