"""What the fakes of TensorRT and of TensorRT-RTX share."""
