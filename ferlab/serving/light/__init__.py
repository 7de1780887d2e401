"""Without Keras and TensorFlow: the network as an ONNX file, in Python and in the browser."""
