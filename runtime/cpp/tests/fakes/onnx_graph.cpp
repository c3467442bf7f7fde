#include "onnx_graph.hpp"

#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace fake {

namespace {

std::size_t bytes_of_one(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
            return 4;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
            return 8;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
            return 1;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
            return 2;
        default:
            throw std::runtime_error("no graph of a bundle has a port of this type");
    }
}

Ort::SessionOptions one_thread() {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);
    options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_ERROR);
    return options;
}

}  // namespace

std::size_t bytes_of(const Port& port, const Shape& shape) {
    const auto count = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    return std::size_t(count) * bytes_of_one(port.type);
}

OnnxGraph::OnnxGraph(const std::string& path)
    : env_(ORT_LOGGING_LEVEL_ERROR, "fake TensorRT"), session_(env_, path.c_str(), one_thread()) {
    const auto add = [&](const Ort::AllocatedStringPtr& name, const Ort::TypeInfo& type, bool is_input) {
        const auto tensor = type.GetTensorTypeAndShapeInfo();
        ports_.push_back({name.get(), tensor.GetElementType(), tensor.GetShape(), is_input});
    };
    Ort::AllocatorWithDefaultOptions allocator;
    for (std::size_t k = 0; k < session_.GetInputCount(); ++k) {
        add(session_.GetInputNameAllocated(k, allocator), session_.GetInputTypeInfo(k), true);
    }
    for (std::size_t k = 0; k < session_.GetOutputCount(); ++k) {
        add(session_.GetOutputNameAllocated(k, allocator), session_.GetOutputTypeInfo(k), false);
    }
}

Shapes OnnxGraph::shapes(const Shapes& inputs) {
    if (const auto known = shapes_.find(inputs); known != shapes_.end()) return known->second;
    Bytes zeros;
    for (const Port& port : ports_) {
        if (port.is_input) zeros[port.name].resize(bytes_of(port, inputs.at(port.name)));
    }
    Shapes all = inputs;
    const std::vector<Ort::Value> values = compute(inputs, zeros);
    std::size_t k = 0;
    for (const Port& port : ports_) {
        if (!port.is_input) all[port.name] = values[k++].GetTensorTypeAndShapeInfo().GetShape();
    }
    return shapes_[inputs] = all;
}

Bytes OnnxGraph::run(const Shapes& shapes, const Bytes& inputs) {
    const std::pair key(shapes, inputs);
    if (const auto known = runs_.find(key); known != runs_.end()) return known->second;
    Bytes outputs;
    const std::vector<Ort::Value> values = compute(shapes, inputs);
    std::size_t k = 0;
    for (const Port& port : ports_) {
        if (port.is_input) continue;
        const auto* bytes = static_cast<const std::byte*>(values[k++].GetTensorRawData());
        outputs[port.name].assign(bytes, bytes + bytes_of(port, shapes.at(port.name)));
    }
    return runs_[key] = outputs;
}

std::vector<Ort::Value> OnnxGraph::compute(const Shapes& shapes, const Bytes& inputs) {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<const char*> names, outputs;
    std::vector<Ort::Value> values;
    for (const Port& port : ports_) {
        (port.is_input ? names : outputs).push_back(port.name.c_str());
        if (!port.is_input) continue;
        const Shape& shape = shapes.at(port.name);
        const auto& bytes = inputs.at(port.name);
        values.push_back(Ort::Value::CreateTensor(memory, const_cast<std::byte*>(bytes.data()), bytes.size(),
                                                  shape.data(), shape.size(), port.type));
    }
    return session_.Run(Ort::RunOptions{nullptr}, names.data(), values.data(), values.size(), outputs.data(),
                        outputs.size());
}

OnnxGraph& open_graph(const std::string& path) {
    // Never destroyed, because ONNX Runtime may end first.
    static auto& graphs = *new std::map<std::string, std::unique_ptr<OnnxGraph>>();
    auto& graph = graphs[path];
    if (!graph) graph = std::make_unique<OnnxGraph>(path);
    return *graph;
}

}  // namespace fake
