// What the engines of the fake TensorRT compute: a graph of the bundle, by ONNX Runtime.
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
    Shape shape;  // −1 where it may be any
    bool is_input;
};

std::size_t bytes_of(const Port& port, const Shape& shape);

// One thread has it at a time.
class OnnxGraph {
  public:
    explicit OnnxGraph(const std::string& path);

    const std::vector<Port>& ports() const { return ports_; }

    // Of all inputs and outputs, for inputs of such shapes.
    Shapes shapes(const Shapes& inputs);

    // The outputs.
    Bytes run(const Shapes& shapes, const Bytes& inputs);

  private:
    std::vector<Ort::Value> compute(const Shapes& shapes, const Bytes& inputs);

    Ort::Env env_;
    Ort::Session session_;
    std::vector<Port> ports_;
    std::map<Shapes, Shapes> shapes_;               // known already
    std::map<std::pair<Shapes, Bytes>, Bytes> runs_;  // the same: tests run the same many times
};

// Loaded once in the process.
OnnxGraph& open_graph(const std::string& path);

}  // namespace fake
