"""Reading and writing of videos: files with PyAV, cameras and network streams with OpenCV."""
