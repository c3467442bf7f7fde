"""Videos in and out: files through PyAV, cameras and network streams through OpenCV."""
