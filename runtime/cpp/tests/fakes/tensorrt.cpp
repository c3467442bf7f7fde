// Library that replaces TensorRT. A serialized engine is a text: the path of a graph's file, then the largest number of
// rows and the largest side of each profile.
#include <NvInferRuntime.h>

#include <algorithm>
#include <memory>
#include <set>
#include <sstream>
#include <utility>

#include "not_faked.hpp"
#include "onnx_graph.hpp"
#include "streams.hpp"

namespace {

using fake::Id;
using fake::Kind;
using fake::Port;
using fake::Shape;
using fake::Shapes;
using fake::Use;
using nvinfer1::Dims;
using nvinfer1::OptProfileSelector;
using Lock = std::lock_guard<std::recursive_mutex>;

constexpr std::size_t alignment = 256;
constexpr std::size_t bytes_of_context = 1 << 12;  // memory outside of the pool

Dims dims_of(const Shape& shape) {
    Dims dims{};
    dims.nbDims = int(shape.size());
    std::copy(shape.begin(), shape.end(), dims.d);
    return dims;
}

Shape shape_of(const Dims& dims) { return Shape(dims.d, dims.d + dims.nbDims); }

Dims none() {
    Dims dims{};
    dims.nbDims = -1;
    return dims;
}

nvinfer1::DataType type_of(const Port& port) {
    switch (port.type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
            return nvinfer1::DataType::kINT64;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
            return nvinfer1::DataType::kUINT8;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
            return nvinfer1::DataType::kHALF;
        default:
            return nvinfer1::DataType::kFLOAT;
    }
}

Id id_of(const void* address) { return reinterpret_cast<Id>(address); }

class Runtime : public nvinfer1::IRuntime, public nvinfer1::NotFakedVRuntime {
  public:
    explicit Runtime(nvinfer1::ILogger& logger) : logger_(logger), id_(fake::begin_life("TensorRT runtime")) {
        mImpl = this;
    }
    ~Runtime() override {
        const Lock lock(fake::mutex);
        if (engines) fake::report("a TensorRT runtime is destroyed before its engines");
        fake::end_life(id_, "TensorRT runtime");
    }

    nvinfer1::ICudaEngine* deserializeCudaEngine(const void* plan, std::size_t bytes) noexcept override;

    // Log a reason and return false, which stands for a failure.
    bool refuse(const std::string& why) {
        logger_.log(nvinfer1::ILogger::Severity::kERROR, ("fake TensorRT: " + why).c_str());
        return false;
    }

    bool fails(const std::string& call) { return fake::fails(call) && !refuse(call + " was chosen to fail"); }

    int engines = 0;

  private:
    nvinfer1::ILogger& logger_;
    const Id id_;
};

struct Profile {
    std::int64_t rows;
    std::int64_t side;
};

class Engine : public nvinfer1::ICudaEngine, public nvinfer1::NotFakedVCudaEngine {
  public:
    Engine(Runtime& runtime, const std::string& plan) : runtime(runtime), id_(fake::begin_life("engine")) {
        std::istringstream lines(plan);
        std::string path;
        std::getline(lines, path);
        for (Profile one{}; lines >> one.rows >> one.side;) profiles_.push_back(one);
        graph = &fake::open_graph(path);
        name = path.substr(path.rfind('/') + 1);
        mImpl = this;
        ++runtime.engines;
    }
    ~Engine() override {
        const Lock lock(fake::mutex);
        fake::expect_first_device("the end of an engine");
        if (contexts) fake::report("engine " + name + " is destroyed before its contexts");
        --runtime.engines;
        fake::end_life(id_, "engine");
    }

    int32_t getNbIOTensors() const noexcept override { return int32_t(graph->ports().size()); }
    const char* getIOTensorName(int32_t k) const noexcept override {
        return graph->ports().at(std::size_t(k)).name.c_str();
    }
    int32_t getNbOptimizationProfiles() const noexcept override { return int32_t(profiles_.size()); }
    nvinfer1::DataType getTensorDataType(const char* tensor) const noexcept override { return type_of(port(tensor)); }
    Dims getTensorShape(const char* tensor) const noexcept override { return dims_of(port(tensor).shape); }
    nvinfer1::TensorIOMode getTensorIOMode(const char* tensor) const noexcept override {
        return port(tensor).is_input ? nvinfer1::TensorIOMode::kINPUT : nvinfer1::TensorIOMode::kOUTPUT;
    }
    Dims getProfileShape(const char* tensor, int32_t profile, OptProfileSelector which) const noexcept override;
    nvinfer1::IExecutionContext* createExecutionContext(
        nvinfer1::ExecutionContextAllocationStrategy strategy) noexcept override;

    const Port& port(const std::string& tensor) const {
        const auto& ports = graph->ports();
        const auto found = std::find_if(ports.begin(), ports.end(), [&](auto& one) { return one.name == tensor; });
        if (found != ports.end()) return *found;
        fake::report("engine " + name + " has no tensor " + tensor);
        return ports.front();
    }
    bool takes(const std::string& tensor, int profile, const Shape& shape) const;

    Runtime& runtime;
    fake::OnnxGraph* graph = nullptr;
    std::string name;
    int contexts = 0;

  private:
    const Id id_;
    std::vector<Profile> profiles_;
};

class Context : public nvinfer1::IExecutionContext, public nvinfer1::NotFakedVExecutionContext {
  public:
    explicit Context(Engine& engine) : engine_(engine), id_(fake::begin_life("context")) {
        mImpl = this;
        ++engine_.contexts;
    }
    ~Context() override {
        const Lock lock(fake::mutex);
        fake::expect_first_device("the end of a context");
        if (fake::is_awaited(id_)) fake::report("a context of " + engine_.name + " is destroyed before it has run");
        --engine_.contexts;
        fake::give_outside(bytes_of_context);
        fake::end_life(id_, "context");
    }

    bool setOptimizationProfileAsync(int32_t profile, cudaStream_t stream) noexcept override;
    bool setInputShape(const char* tensor, const Dims& dims) noexcept override;
    Dims getTensorShape(const char* tensor) const noexcept override;
    bool setTensorAddress(const char* tensor, void* address) noexcept override;
    std::size_t updateDeviceMemorySizeForShapes() noexcept override;
    void setDeviceMemoryV2(void* memory, int64_t bytes) noexcept override { memory_ = {memory, std::size_t(bytes)}; }
    bool enqueueV3(cudaStream_t stream) noexcept override;

  private:
    bool is_shaped() const;
    std::size_t working_bytes() const;
    std::string missing(cudaStream_t stream) const;
    std::vector<Use> uses(const Shapes& shapes) const;

    Engine& engine_;
    const Id id_;
    int profile_ = -1;
    Shapes shapes_;  // of the inputs
    std::map<std::string, void*> addresses_;
    std::pair<void*, std::size_t> memory_{};
    bool is_new_ = true;  // whether the context has not run since its shapes were set
};

nvinfer1::ICudaEngine* Runtime::deserializeCudaEngine(const void* plan, std::size_t bytes) noexcept {
    const Lock lock(fake::mutex);
    if (fails("deserializeCudaEngine")) return nullptr;
    fake::expect_first_device("deserializeCudaEngine");
    return new Engine(*this, std::string(static_cast<const char*>(plan), bytes));
}

Dims Engine::getProfileShape(const char* tensor, int32_t profile, OptProfileSelector which) const noexcept {
    Shape shape = port(tensor).shape;
    const Profile& most = profiles_.at(std::size_t(profile));
    for (std::size_t k = 0; k < shape.size(); ++k) {
        if (shape[k] >= 0) continue;
        shape[k] = which == OptProfileSelector::kMIN ? 1 : k == 0 ? most.rows : most.side;
    }
    return dims_of(shape);
}

bool Engine::takes(const std::string& tensor, int profile, const Shape& shape) const {
    const Shape least = shape_of(getProfileShape(tensor.c_str(), profile, OptProfileSelector::kMIN));
    const Shape most = shape_of(getProfileShape(tensor.c_str(), profile, OptProfileSelector::kMAX));
    bool fits = shape.size() == most.size();
    for (std::size_t k = 0; fits && k < shape.size(); ++k) fits = least[k] <= shape[k] && shape[k] <= most[k];
    return fits;
}

nvinfer1::IExecutionContext* Engine::createExecutionContext(
    nvinfer1::ExecutionContextAllocationStrategy strategy) noexcept {
    const Lock lock(fake::mutex);
    if (runtime.fails("createExecutionContext")) return nullptr;
    fake::expect_first_device("createExecutionContext");
    if (strategy != nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED) {
        fake::report("a context of " + name + " has its own activation memory");
    }
    if (!fake::take_outside(bytes_of_context)) {
        runtime.refuse("out of memory");
        return nullptr;
    }
    return new Context(*this);
}

bool Context::setOptimizationProfileAsync(int32_t profile, cudaStream_t stream) noexcept {
    const Lock lock(fake::mutex);
    if (engine_.runtime.fails("setOptimizationProfileAsync")) return false;
    if (profile < 0 || profile >= engine_.getNbOptimizationProfiles()) return engine_.runtime.refuse("no such profile");
    profile_ = profile;
    shapes_.clear();
    is_new_ = true;
    return fake::give(id_of(stream), {"the choice of a profile", {{id_, true}}, [] {}});
}

bool Context::setInputShape(const char* tensor, const Dims& dims) noexcept {
    const Lock lock(fake::mutex);
    if (engine_.runtime.fails("setInputShape")) return false;
    const Shape shape = shape_of(dims);
    if (profile_ < 0 || !engine_.port(tensor).is_input || !engine_.takes(tensor, profile_, shape)) {
        return engine_.runtime.refuse(std::string("unsupported shape of ") + tensor);
    }
    const auto [place, is_first] = shapes_.try_emplace(tensor, shape);
    is_new_ |= is_first || place->second != shape;
    place->second = shape;
    return true;
}

Dims Context::getTensorShape(const char* tensor) const noexcept {
    const Lock lock(fake::mutex);
    if (engine_.runtime.fails("getTensorShape")) return none();
    if (!is_shaped()) return dims_of(engine_.port(tensor).shape);
    try {
        return dims_of(engine_.graph->shapes(shapes_).at(tensor));
    } catch (const std::exception& error) {  // shapes that do not fit together
        engine_.runtime.refuse(error.what());
        return none();
    }
}

bool Context::setTensorAddress(const char* tensor, void* address) noexcept {
    const Lock lock(fake::mutex);
    if (engine_.runtime.fails("setTensorAddress")) return false;
    engine_.port(tensor);
    if (id_of(address) % alignment) fake::report(engine_.name + ": the address of " + tensor + " is not aligned");
    addresses_[tensor] = address;
    return true;
}

std::size_t Context::updateDeviceMemorySizeForShapes() noexcept {
    const Lock lock(fake::mutex);
    if (engine_.runtime.fails("updateDeviceMemorySizeForShapes") || !is_shaped()) return 0;
    return working_bytes();
}

bool Context::is_shaped() const {
    const auto& ports = engine_.graph->ports();
    return std::all_of(ports.begin(), ports.end(),
                       [&](const Port& port) { return !port.is_input || shapes_.contains(port.name); });
}

// Return the size of the activation memory: that of all inputs, so that it differs between engines.
std::size_t Context::working_bytes() const {
    std::size_t bytes = 0;
    for (const auto& [tensor, shape] : shapes_) bytes += fake::bytes_of(engine_.port(tensor), shape);
    return bytes;
}

// Return why the context cannot run yet, or "" if it can.
std::string Context::missing(cudaStream_t stream) const {
    if (profile_ < 0) return "no profile was chosen";
    if (!is_shaped()) return "an input has no shape";
    if (is_new_ && fake::is_capturing(id_of(stream))) return "with new shapes it must run once before it is recorded";
    if (memory_.second < working_bytes()) return "too little activation memory";
    for (const Port& port : engine_.graph->ports()) {
        const auto found = addresses_.find(port.name);
        if (found == addresses_.end() || !found->second) return port.name + " has no address";
    }
    return "";
}

// Return the uses of all memory that the context reads and writes. Memory that overlaps is a fault.
std::vector<Use> Context::uses(const Shapes& shapes) const {
    std::vector<Use> all{{id_, true}};
    std::set<Id> read, written;
    const auto add = [&](void* address, std::size_t bytes, bool writes, const std::string& what) {
        const Use use = fake::use(Kind::device, address, bytes, writes, engine_.name + ": " + what);
        const bool is_alone = writes ? !read.contains(use.id) && written.insert(use.id).second
                                     : (read.insert(use.id), !written.contains(use.id));
        if (use.id && !is_alone) fake::report(engine_.name + ": " + what + " overlaps other memory of the context");
        all.push_back(use);
    };
    for (const Port& port : engine_.graph->ports()) {
        add(addresses_.at(port.name), fake::bytes_of(port, shapes.at(port.name)), !port.is_input, port.name);
    }
    add(memory_.first, memory_.second, true, "the activation memory");
    return all;
}

bool Context::enqueueV3(cudaStream_t stream) noexcept {
    const Lock lock(fake::mutex);
    const bool is_capturing = fake::is_capturing(id_of(stream));
    if (engine_.runtime.fails("enqueueV3")) {
        if (is_capturing) fake::spoil_capture(id_of(stream));
        return false;
    }
    fake::expect_first_device("enqueueV3");
    if (const std::string why = missing(stream); !why.empty()) return engine_.runtime.refuse(why);
    const Shapes shapes = engine_.graph->shapes(shapes_);
    const auto run = [&graph = *engine_.graph, name = engine_.name, shapes, addresses = addresses_] {
        fake::Bytes inputs;
        for (const Port& port : graph.ports()) {
            if (!port.is_input) continue;
            const void* address = addresses.at(port.name);
            const std::size_t bytes = fake::bytes_of(port, shapes.at(port.name));
            if (fake::has_poison(address, bytes)) fake::report(name + " reads " + port.name + " before it is written");
            const std::byte* begin = fake::contents(address);
            inputs[port.name].assign(begin, begin + bytes);
        }
        for (const auto& [tensor, values] : graph.run(shapes, inputs)) {
            std::copy(values.begin(), values.end(), fake::contents(addresses.at(tensor)));
        }
    };
    if (!fake::give(id_of(stream), {engine_.name, uses(shapes), run})) return engine_.runtime.refuse("wrong use");
    is_new_ = false;
    return true;
}

}  // namespace

// Functions that TensorRT's headers declare.
extern "C" {

void* createInferRuntime_INTERNAL(void* logger, int32_t version) noexcept {
    const Lock lock(fake::mutex);
    auto& log = *static_cast<nvinfer1::ILogger*>(logger);
    if (version != NV_TENSORRT_VERSION) fake::report("a runtime is created for other headers");
    if (fake::fails("createInferRuntime")) {
        log.log(nvinfer1::ILogger::Severity::kERROR, "fake TensorRT: createInferRuntime was chosen to fail");
        return nullptr;
    }
    return static_cast<nvinfer1::IRuntime*>(new Runtime(log));
}

int32_t getInferLibMajorVersion() noexcept { return NV_TENSORRT_MAJOR; }
int32_t getInferLibMinorVersion() noexcept { return NV_TENSORRT_MINOR; }
int32_t getInferLibPatchVersion() noexcept { return NV_TENSORRT_PATCH; }
int32_t getInferLibBuildVersion() noexcept { return NV_TENSORRT_BUILD; }
}
