// Its pointer is set when a backend is made: by then, whatever the order in which static objects are.
#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT
#include <onnxruntime_session_options_config_keys.h>

#include <algorithm>
#include <any>
#include <array>
#include <cctype>

#include "backend.hpp"
#include "errors.hpp"

namespace caflow::runtime {

// Of `value` the memory is ONNX Runtime's, or `values`.
struct Tensor {
    Ort::Value value{nullptr};
    std::any values;
};

namespace {

namespace fs = std::filesystem;
using Device = Backend::Device;

// What is one for the process is never destroyed: threads of the application may outlive its static objects.

void find_library() {
    const OrtApi* api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!api) {
        throw BackendError("wanted ONNX Runtime 1." + std::to_string(ORT_API_VERSION) + " or newer, got " +
                           OrtGetApiBase()->GetVersionString());
    }
    Ort::InitApi(api);
}

const Ort::MemoryInfo& host_memory() {
    static const auto& memory = *new Ort::MemoryInfo(Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault));
    return memory;
}

const Ort::MemoryInfo& device_memory() {
    static const auto& memory = *new Ort::MemoryInfo("Cuda", OrtDeviceAllocator, 0, OrtMemTypeDefault);
    return memory;
}

Ort::Env& environment() {
    static Ort::Env& env = *[] {
        auto* created = new Ort::Env(ORT_LOGGING_LEVEL_ERROR, "caflow");
        try {
            // One memory for all graphs of the process, which run one after the other: less than half of one for each.
            created->CreateAndRegisterAllocator(host_memory(), nullptr);
        } catch (const Ort::Exception&) {
            // Another user of ONNX Runtime in this process was first: theirs is shared.
        }
        return created;
    }();
    return env;
}

template <class T>
Array make(const Shape& shape, std::vector<T> values) {
    auto tensor = std::make_shared<Tensor>();
    auto& kept = tensor->values.emplace<std::vector<T>>(std::move(values));
    tensor->value = Ort::Value::CreateTensor<T>(host_memory(), kept.data(), kept.size(), shape.data(), shape.size());
    return tensor;
}

bool is_out_of_memory(const std::string& text) {
    std::string lower = text;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    constexpr std::array signs{"allocate memory", "alloc_failed", "bad allocation", "bad_alloc", "out of memory"};
    return std::any_of(signs.begin(), signs.end(),
                       [&](const char* sign) { return lower.find(sign) != std::string::npos; });
}

[[noreturn]] void explain(const std::string& what, const Ort::Exception& error) {
    const std::string text = what + ": " + error.what();
    if (is_out_of_memory(text)) throw OutOfMemory(text + ": give a smaller pixel_budget");
    throw BackendError(text);
}

const char* provider_of(Device device) {
    if (device == Device::tensorrt) return "TensorrtExecutionProvider";
    return device == Device::cuda ? "CUDAExecutionProvider" : "CPUExecutionProvider";
}

void append_cuda(Ort::SessionOptions& options) {
    OrtCUDAProviderOptionsV2* cuda = nullptr;
    Ort::ThrowOnError(Ort::GetApi().CreateCUDAProviderOptions(&cuda));
    const std::unique_ptr<OrtCUDAProviderOptionsV2, decltype(Ort::GetApi().ReleaseCUDAProviderOptions)> owner(
        cuda, Ort::GetApi().ReleaseCUDAProviderOptions);
    const char *key = "use_tf32", *value = "0";  // it would cost the inverses their accuracy
    Ort::ThrowOnError(Ort::GetApi().UpdateCUDAProviderOptions(cuda, &key, &value, 1));
    options.AppendExecutionProvider_CUDA_V2(*cuda);
}

void append_tensorrt(Ort::SessionOptions& options, const std::string& engine_cache) {
    OrtTensorRTProviderOptionsV2* tensorrt = nullptr;
    Ort::ThrowOnError(Ort::GetApi().CreateTensorRTProviderOptions(&tensorrt));
    const std::unique_ptr<OrtTensorRTProviderOptionsV2, decltype(Ort::GetApi().ReleaseTensorRTProviderOptions)> owner(
        tensorrt, Ort::GetApi().ReleaseTensorRTProviderOptions);
    if (!engine_cache.empty()) {
        fs::create_directories(engine_cache);
        const std::array keys{"trt_engine_cache_enable", "trt_engine_cache_path"};
        const std::array values{"1", engine_cache.c_str()};
        Ort::ThrowOnError(
            Ort::GetApi().UpdateTensorRTProviderOptions(tensorrt, keys.data(), values.data(), keys.size()));
    }
    options.AppendExecutionProvider_TensorRT_V2(*tensorrt);
}

// Raises where the provider cannot be had: nothing is left to the CPU's but what the provider itself leaves to it.
Ort::SessionOptions session_options(Device device, int threads, const std::string& engine_cache) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_ERROR);
    // Each graph has its own threads; those of the last one would spin on while the next one runs, on the same cores.
    options.AddConfigEntry(kOrtSessionOptionsConfigForceSpinningStop, "1");
    if (device == Device::cpu) options.AddConfigEntry(kOrtSessionOptionsConfigUseEnvAllocators, "1");
    // Version 1.21 moves a transposition past a cubic Resize, which it then cannot run.
    if (Ort::GetVersionString().starts_with("1.21.")) {
        options.AddConfigEntry(kOrtSessionOptionsDisableSpecifiedOptimizers, "TransposeOptimizer_CPUExecutionProvider");
    }
    if (device == Device::tensorrt) append_tensorrt(options, engine_cache);
    if (device != Device::cpu) append_cuda(options);
    return options;
}

// A session with the names of what goes in and out.
struct Loaded {
    Loaded(const fs::path& path, const Ort::SessionOptions& options) : session(environment(), path.c_str(), options) {
        Ort::AllocatorWithDefaultOptions allocator;
        for (std::size_t k = 0; k < session.GetInputCount(); ++k) {
            inputs.emplace_back(session.GetInputNameAllocated(k, allocator).get());
        }
        for (std::size_t k = 0; k < session.GetOutputCount(); ++k) {
            outputs.emplace_back(session.GetOutputNameAllocated(k, allocator).get());
        }
    }

    Ort::Session session;
    std::vector<std::string> inputs;
    std::vector<std::string> outputs;
};

void bind_inputs(Ort::IoBinding& binding, const Loaded& loaded, const Arrays& arrays, const std::string& path) {
    for (const std::string& name : loaded.inputs) {
        const auto found = arrays.find(name);
        if (found == arrays.end()) {
            throw BackendError(path + ": wants an input '" + name +
                               "' that the chain does not give: export the model again");
        }
        binding.BindInput(name.c_str(), found->second->value);
    }
}

}  // namespace

Array make_array(Shape shape, std::vector<float> values) { return make(shape, std::move(values)); }
Array make_array(Shape shape, std::vector<std::uint8_t> values) { return make(shape, std::move(values)); }
Array make_array(Shape shape, std::vector<std::int64_t> values) { return make(shape, std::move(values)); }

Shape shape_of(const Array& array) { return array->value.GetTensorTypeAndShapeInfo().GetShape(); }

std::span<const float> floats_of(const Array& array) {
    const auto info = array->value.GetTensorTypeAndShapeInfo();
    if (info.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
        throw BackendError("wanted a graph's output as float32, got another type: export the model again");
    }
    return {array->value.GetTensorData<float>(), info.GetElementCount()};
}

Array take(const Array& array, const std::vector<std::size_t>& rows) {
    Shape shape = shape_of(array);
    const std::span<const float> values = floats_of(array);
    const std::size_t count = shape.empty() ? 0 : std::size_t(shape[0]);
    if (std::any_of(rows.begin(), rows.end(), [&](std::size_t row) { return row >= count; })) {
        throw BackendError("a graph gave fewer rows than it was given: export the model again");
    }
    const std::size_t size = values.size() / count;
    std::vector<float> taken;
    taken.reserve(rows.size() * size);
    for (const std::size_t row : rows) {
        const auto part = values.subspan(row * size, size);
        taken.insert(taken.end(), part.begin(), part.end());
    }
    shape[0] = std::int64_t(rows.size());
    return make(shape, std::move(taken));
}

Backend::Backend(Device device, int threads, std::string engine_cache)
    : device_(device), threads_(threads), engine_cache_(std::move(engine_cache)) {
    find_library();
    constexpr std::array names{"onnxruntime cpu", "onnxruntime cuda", "onnxruntime tensorrt"};
    name_ = names[std::size_t(device)];
    const std::vector<std::string> built = Ort::GetAvailableProviders();
    if (std::find(built.begin(), built.end(), provider_of(device)) == built.end()) {
        std::string found;
        for (const std::string& one : built) found += " " + one;
        throw BackendError(std::string("wanted ONNX Runtime's ") + provider_of(device) + ", this build of it has" +
                           found + ": link a build for the GPU, such as the library of the package onnxruntime-gpu");
    }
    environment();  // providers need its log
    try {
        session_options(device_, threads_, engine_cache_);
    } catch (const Ort::Exception& error) {
        throw BackendError("wanted " + name_ + ", but it cannot run here (" + error.what() +
                           "): install an NVIDIA driver, CUDA 13 and cuDNN 9" +
                           (device == Device::tensorrt ? ", and TensorRT 10" : ""));
    }
}

Graph Backend::load(const fs::path& path, const std::vector<std::string>& on_host) const {
    std::shared_ptr<Loaded> loaded;
    try {
        loaded = std::make_shared<Loaded>(path, session_options(device_, threads_, engine_cache_));
    } catch (const Ort::Exception& error) {
        const std::string text = name_ + " cannot load it: " + error.what();
        if (is_out_of_memory(text)) throw OutOfMemory(path.string() + ": " + text);
        throw BundleError(BundleError::Kind::BrokenGraph, path, text);
    }
    const bool has_device = device_ != Device::cpu;
    return [loaded, on_host, has_device, text = path.string()](const Arrays& arrays, Place place) {
        try {
            Ort::IoBinding binding(loaded->session);
            bind_inputs(binding, *loaded, arrays, text);
            for (const std::string& name : loaded->outputs) {
                const bool is_read = std::find(on_host.begin(), on_host.end(), name) != on_host.end();
                const bool stays = has_device && place == Place::device && !is_read;
                binding.BindOutput(name.c_str(), stays ? device_memory() : host_memory());
            }
            loaded->session.Run(Ort::RunOptions{nullptr}, binding);
            std::vector<Ort::Value> values = binding.GetOutputValues();
            Arrays out;
            for (std::size_t k = 0; k < values.size(); ++k) {
                auto tensor = std::make_shared<Tensor>();
                tensor->value = std::move(values[k]);
                out[loaded->outputs[k]] = tensor;
            }
            return out;
        } catch (const Ort::Exception& error) {
            explain(text, error);
        }
    };
}

}  // namespace caflow::runtime
