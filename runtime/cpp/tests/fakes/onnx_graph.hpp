// Computations of the fake TensorRT's engines: each engine runs a graph of the bundle with ONNX Runtime.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fake {

using Shape = std::vector<std::int64_t>;
using Shapes = std::map<std::string, Shape>;
using Bytes = std::map<std::string, std::vector<std::byte>>;

struct Port {
    std::string name;
    ONNXTensorElementDataType type;
    Shape shape;  // −1 for a dynamic size
    bool is_input;
};

std::size_t bytes_of(const Port& port, const Shape& shape);

// A graph. Only one thread at a time may use it.
class OnnxGraph {
  public:
    explicit OnnxGraph(const std::string& path);

    const std::vector<Port>& ports() const { return ports_; }

    // Return the shapes of all inputs and outputs, for these shapes of the inputs.
    Shapes shapes(const Shapes& inputs);

    // Return the outputs.
    Bytes run(const Shapes& shapes, const Bytes& inputs);

  private:
    std::vector<Ort::Value> compute(const Shapes& shapes, const Bytes& inputs);

    Ort::Env env_;
    Ort::Session session_;
    std::vector<Port> ports_;
    std::map<Shapes, Shapes> shapes_;               // cache of shapes
    std::map<std::pair<Shapes, Bytes>, Bytes> runs_;  // cache of outputs: tests run the same inputs many times
};

// Return the graph of an ONNX file. Each file is loaded once per process.
OnnxGraph& open_graph(const std::string& path);

}  // namespace fake
