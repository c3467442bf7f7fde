#include "tensorrt_engine.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "errors.hpp"
#include "tensorrt.hpp"

namespace caflow::runtime {

namespace {

using nvinfer1::DataType;
using nvinfer1::OptProfileSelector;

constexpr std::size_t smallest = 256;  // least bytes of activation memory: TensorRT returns 0 if its query fails, too

constexpr std::array types{
    std::pair{DataType::kFLOAT, Type::float32}, std::pair{DataType::kHALF, Type::float16},
    std::pair{DataType::kBF16, Type::bfloat16}, std::pair{DataType::kUINT8, Type::uint8},
    std::pair{DataType::kINT32, Type::int32},   std::pair{DataType::kINT64, Type::int64},
};

Type type_of(DataType theirs, const std::string& where) {
    const auto found = std::find_if(types.begin(), types.end(), [&](auto& pair) { return pair.first == theirs; });
    if (found != types.end()) return found->second;
    throw BackendError(where + ": an input or output has a type that no graph has: build the engine again");
}

nvinfer1::Dims dims_of(const Shape& shape) {
    nvinfer1::Dims dims{};
    dims.nbDims = int(std::min(shape.size(), std::size(dims.d)));
    std::copy_n(shape.begin(), dims.nbDims, dims.d);
    return dims;
}

Shape shape_of(const nvinfer1::Dims& dims) { return Shape(dims.d, dims.d + std::max(0, int(dims.nbDims))); }

bool is_dynamic(const Shape& shape) {
    return std::any_of(shape.begin(), shape.end(), [](std::int64_t side) { return side < 0; });
}

std::string text_of(const Arrays& arrays) {
    std::string text;
    for (const auto& [name, array] : arrays) {
        text += (text.empty() ? "" : ", ") + name;
        for (std::size_t k = 0; k < array->shape.size(); ++k) text += (k ? "×" : " ") + std::to_string(array->shape[k]);
    }
    return text;
}

// Whether the context's work can be recorded. Only TensorRT-RTX has a query for this.
template <class Context>
bool can_be_recorded(const Context& context, cudaStream_t stream) {
    if constexpr (requires { context.isStreamCapturable(stream); }) return context.isStreamCapturable(stream);
    return true;
}

}  // namespace

EngineGraph::EngineGraph(TensorRt& backend, nvinfer1::IRuntime& runtime, const std::string& plan, std::string where)
    : backend_(backend), where_(std::move(where)) {
    engine_ = backend_.made(where_, [&] {
        return std::unique_ptr<nvinfer1::ICudaEngine>(runtime.deserializeCudaEngine(plan.data(), plan.size()));
    });
    for (int k = 0; k < engine_->getNbIOTensors(); ++k) {
        const char* name = engine_->getIOTensorName(k);
        const bool is_input = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        (is_input ? inputs_ : outputs_)[name] = type_of(engine_->getTensorDataType(name), where_);
    }
}

EngineGraph::~EngineGraph() {
    const FirstGpu first;
    cudaStreamSynchronize(backend_.device->compute());  // contexts are freed at once, not in the order of the stream
    contexts_.clear();
    engine_.reset();
}

Arrays EngineGraph::run(const Arrays& arrays) {
    const std::lock_guard lock(backend_.mutex);
    const FirstGpu first;
    const Arrays inputs = inputs_of(arrays);
    nvinfer1::IExecutionContext& context = context_for(profile_for(inputs));
    bind(context, inputs);
    Arrays outputs = bind_outputs(context, inputs);
    if (backend_.is_capturing()) {
        if (!context.enqueueV3(backend_.recording->stream)) refuse(inputs);
        return outputs;
    }
    give_memory(context);
    if (backend_.recording && !can_be_recorded(context, backend_.recording->stream)) {
        throw BackendError(where_ + ": " + backend_.name + " cannot record this engine");
    }
    backend_.made(where_, [&] { return context.enqueueV3(backend_.device->compute()); });
    return outputs;
}

Arrays EngineGraph::inputs_of(const Arrays& arrays) const {
    Arrays inputs;
    for (const auto& [name, type] : inputs_) {
        const Array& array = given(arrays, name, where_);
        if (array->type != type)
            throw BackendError(where_ + ": the input '" + name +
                               "' has another type in the engine: build the engine again");
        inputs[name] = on_device(backend_.device, array);
    }
    return inputs;
}

void EngineGraph::bind(nvinfer1::IExecutionContext& context, const Arrays& inputs) const {
    for (const auto& [name, array] : inputs) {
        // While recording, the context already has the shapes from the run before.
        const bool has_shape = backend_.is_capturing() || context.setInputShape(name.c_str(), dims_of(array->shape));
        void* address = static_cast<const DeviceTensor&>(*array).address();
        if (!has_shape || !context.setTensorAddress(name.c_str(), address)) refuse(inputs);
    }
}

Arrays EngineGraph::bind_outputs(nvinfer1::IExecutionContext& context, const Arrays& inputs) const {
    Arrays outputs;
    for (const auto& [name, type] : outputs_) {
        const nvinfer1::Dims dims = context.getTensorShape(name.c_str());
        const Shape shape = shape_of(dims);
        if (dims.nbDims < 0 || is_dynamic(shape)) refuse(inputs);  // nbDims is −1 for an invalid shape, 0 for a scalar
        const auto output = backend_.output(shape, type);
        if (!context.setTensorAddress(name.c_str(), output->address())) refuse(inputs);
        outputs[name] = output;
    }
    return outputs;
}

// Give the context its activation memory. Not called while recording: the context has the memory from the run before.
void EngineGraph::give_memory(nvinfer1::IExecutionContext& context) const {
    const std::size_t bytes = std::max(smallest, context.updateDeviceMemorySizeForShapes());
    context.setDeviceMemoryV2(backend_.activation(bytes).address, std::int64_t(bytes));
}

// Return the last profile that accepts the shapes. Later profiles are for smaller targets.
int EngineGraph::profile_for(const Arrays& inputs) const {
    for (int profile = engine_->getNbOptimizationProfiles(); profile-- > 0;) {
        const auto fits = [&](const auto& input) { return takes(input.first, profile, input.second->shape); };
        if (std::all_of(inputs.begin(), inputs.end(), fits)) return profile;
    }
    throw BackendError(where_ + " was not built for inputs of " + text_of(inputs) +
                       ": build the engines with a larger --max-rows or --max-size");
}

bool EngineGraph::takes(const std::string& name, int profile, const Shape& shape) const {
    const Shape fixed = shape_of(engine_->getTensorShape(name.c_str()));
    if (!is_dynamic(fixed)) return shape == fixed;
    const auto bound = [&](OptProfileSelector which) {
        return shape_of(engine_->getProfileShape(name.c_str(), profile, which));
    };
    const Shape least = bound(OptProfileSelector::kMIN), most = bound(OptProfileSelector::kMAX);
    if (shape.size() != least.size() || shape.size() != most.size()) return false;
    for (std::size_t k = 0; k < shape.size(); ++k) {
        if (shape[k] < least[k] || shape[k] > most[k]) return false;
    }
    return true;
}

// Return the context for a profile. A recording has contexts of its own, because contexts that are replayed must not be
// changed.
nvinfer1::IExecutionContext& EngineGraph::context_for(int profile) {
    Contexts& contexts = backend_.recording ? backend_.recording->contexts : contexts_;
    auto& context = contexts[{this, profile}];
    if (!context) {
        auto created = backend_.made(where_, [&] { return create_context(); });
        backend_.made(where_,
                      [&] { return created->setOptimizationProfileAsync(profile, backend_.device->compute()); });
        context = std::move(created);
    }
    return *context;
}

// Create a context without activation memory of its own.
std::unique_ptr<nvinfer1::IExecutionContext> EngineGraph::create_context() const {
    constexpr auto strategy = nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED;
#ifdef TRT_MAJOR_RTX
    // For recordings, compile kernels for the exact shapes at once. Otherwise use generic kernels until the specialized
    // ones are compiled.
    using Kernels = nvinfer1::DynamicShapesKernelSpecializationStrategy;
    const std::unique_ptr<nvinfer1::IRuntimeConfig> config(engine_->createRuntimeConfig());
    if (!config) return nullptr;
    config->setExecutionContextAllocationStrategy(strategy);
    config->setDynamicShapesKernelSpecializationStrategy(backend_.recording ? Kernels::kEAGER : Kernels::kLAZY);
    return std::unique_ptr<nvinfer1::IExecutionContext>(engine_->createExecutionContext(config.get()));
#else
    return std::unique_ptr<nvinfer1::IExecutionContext>(engine_->createExecutionContext(strategy));
#endif
}

void EngineGraph::refuse(const Arrays& inputs) const {
    fail(where_ + ": " + backend_.name + " does not accept inputs of " + text_of(inputs) + ": " + errors_of_tensorrt());
}

}  // namespace caflow::runtime
