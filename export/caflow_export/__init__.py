"""Export of a checkpoint as a bundle of ONNX graphs, and TensorRT engines built from these graphs."""
