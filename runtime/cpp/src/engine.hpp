// One TensorRT engine as a graph.
#pragma once

#include <NvInferRuntime.h>

#include <map>
#include <memory>
#include <string>

#include "tensor.hpp"

namespace caflow::runtime {

class TensorRt;

// What runs an engine for the shapes of a profile.
using Contexts = std::map<std::pair<const void*, int>, std::unique_ptr<nvinfer1::IExecutionContext>>;

// Must not outlive its backend.
class EngineGraph {
  public:
    // `plan`: what was built. `where`: its path, for messages.
    EngineGraph(TensorRt& backend, nvinfer1::IRuntime& runtime, const std::string& plan, std::string where);
    ~EngineGraph();
    EngineGraph(const EngineGraph&) = delete;
    EngineGraph& operator=(const EngineGraph&) = delete;

    // Gives the stream its work; what it gives is there when the stream has done it.
    Arrays run(const Arrays& arrays);

  private:
    int profile_for(const Arrays& inputs) const;
    bool takes(const std::string& name, int profile, const Shape& shape) const;
    nvinfer1::IExecutionContext& context_for(int profile);
    std::unique_ptr<nvinfer1::IExecutionContext> create_context() const;
    [[noreturn]] void refuse(const Arrays& inputs, const std::string& what) const;

    TensorRt& backend_;
    const std::string where_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::map<std::string, Type> inputs_;
    std::map<std::string, Type> outputs_;
    Contexts contexts_;
};

}  // namespace caflow::runtime
