"""Jobs over many files. Each job writes to one folder of results, and the same command resumes an interrupted job."""
