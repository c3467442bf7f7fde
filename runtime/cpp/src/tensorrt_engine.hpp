// Runs one TensorRT engine as a graph.
#pragma once

#include <NvInferRuntime.h>

#include <map>
#include <memory>
#include <string>

#include "tensor.hpp"

namespace caflow::runtime {

class EngineGraph;
class TensorRt;

// Execution contexts, by engine and optimization profile. They must not outlive their engines.
using Contexts = std::map<std::pair<const EngineGraph*, int>, std::unique_ptr<nvinfer1::IExecutionContext>>;

// One engine of a backend, which owns it.
class EngineGraph {
  public:
    // `plan` is the serialized engine. `where` is its path, for messages. Throws a BackendError or OutOfMemory.
    EngineGraph(TensorRt& backend, nvinfer1::IRuntime& runtime, const std::string& plan, std::string where);
    ~EngineGraph();
    EngineGraph(const EngineGraph&) = delete;
    EngineGraph& operator=(const EngineGraph&) = delete;

    // Queue the engine's work on the compute stream and return the outputs. Their values are valid when the stream has
    // done this work.
    Arrays run(const Arrays& arrays);

  private:
    Arrays inputs_of(const Arrays& arrays) const;
    int profile_for(const Arrays& inputs) const;
    bool takes(const std::string& name, int profile, const Shape& shape) const;
    nvinfer1::IExecutionContext& context_for(int profile);
    std::unique_ptr<nvinfer1::IExecutionContext> create_context() const;
    void bind(nvinfer1::IExecutionContext& context, const Arrays& inputs) const;
    Arrays bind_outputs(nvinfer1::IExecutionContext& context, const Arrays& inputs) const;
    void give_memory(nvinfer1::IExecutionContext& context) const;
    [[noreturn]] void refuse(const Arrays& inputs) const;

    TensorRt& backend_;
    const std::string where_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::map<std::string, Type> inputs_;
    std::map<std::string, Type> outputs_;
    Contexts contexts_;
};

}  // namespace caflow::runtime
