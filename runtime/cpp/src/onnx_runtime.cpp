// ONNX Runtime's API pointer is set in find_library, when a backend is opened, and not by a static object. So the order
// in which static objects are initialized does not matter.
#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT
#include <onnxruntime_run_options_config_keys.h>
#include <onnxruntime_session_options_config_keys.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>

#include "backend.hpp"
#include "errors.hpp"

namespace caflow::runtime {

namespace {

namespace fs = std::filesystem;

// Objects that exist once per process are never destroyed, because threads of the application may outlive static
// objects.

// Set ONNX Runtime's API pointer. Throws a BackendError if the library is older than the headers.
void find_library() {
    static std::once_flag is_found;  // threads that run another model read the pointer
    std::call_once(is_found, [] {
        const OrtApi* api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
        if (!api) {
            throw BackendError("the backend requires ONNX Runtime 1." + std::to_string(ORT_API_VERSION) +
                               " or newer; got " + OrtGetApiBase()->GetVersionString());
        }
        Ort::InitApi(api);
    });
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
            // Use one memory arena for all graphs of the process. Graphs run one after the other, so this takes less
            // than half of the memory of one arena per graph.
            created->CreateAndRegisterAllocator(host_memory(), nullptr);
        } catch (const Ort::Exception&) {
            // Another user of ONNX Runtime in this process has registered an arena already: share it.
        }
        return created;
    }();
    return env;
}

// Types of tensors, and ONNX Runtime's constants for them.
constexpr std::array types{
    std::pair{Type::float32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
    std::pair{Type::float16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    std::pair{Type::bfloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16},
    std::pair{Type::uint8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
    std::pair{Type::int32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
    std::pair{Type::int64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
};

Type type_of(const Ort::Value& value) {
    const auto theirs = value.GetTensorTypeAndShapeInfo().GetElementType();
    const auto found = std::find_if(types.begin(), types.end(), [&](auto& pair) { return pair.second == theirs; });
    return found == types.end() ? Type::other : found->first;
}

// Output of a graph, in the memory where the graph left it.
class Output : public Tensor {
  public:
    explicit Output(Ort::Value&& given)
        : Tensor(given.GetTensorTypeAndShapeInfo().GetShape(), type_of(given)), value(std::move(given)) {}

    const void* values() const override {
        if (value.GetTensorMemoryInfo().GetDeviceType() != OrtMemoryInfoDeviceType_CPU) {
            throw BackendError("the host cannot read an array that a graph left on the GPU: export the model again");
        }
        return value.GetTensorRawData();
    }

    const Ort::Value value;
};

const char* name_of(Provider provider) {
    if (provider == Provider::tensorrt) return "TensorrtExecutionProvider";
    return provider == Provider::cuda ? "CUDAExecutionProvider" : "CPUExecutionProvider";
}

void append_cuda(Ort::SessionOptions& options) {
    OrtCUDAProviderOptionsV2* cuda = nullptr;
    Ort::ThrowOnError(Ort::GetApi().CreateCUDAProviderOptions(&cuda));
    const std::unique_ptr<OrtCUDAProviderOptionsV2, decltype(Ort::GetApi().ReleaseCUDAProviderOptions)> owner(
        cuda, Ort::GetApi().ReleaseCUDAProviderOptions);
    const char *key = "use_tf32", *value = "0";  // TF32 would make the inverses inaccurate
    Ort::ThrowOnError(Ort::GetApi().UpdateCUDAProviderOptions(cuda, &key, &value, 1));
    options.AppendExecutionProvider_CUDA_V2(*cuda);
}

void append_tensorrt(Ort::SessionOptions& options, const std::string& engine_cache) {
    OrtTensorRTProviderOptionsV2* tensorrt = nullptr;
    Ort::ThrowOnError(Ort::GetApi().CreateTensorRTProviderOptions(&tensorrt));
    const std::unique_ptr<OrtTensorRTProviderOptionsV2, decltype(Ort::GetApi().ReleaseTensorRTProviderOptions)> owner(
        tensorrt, Ort::GetApi().ReleaseTensorRTProviderOptions);
    if (!engine_cache.empty()) {
        const std::array keys{"trt_engine_cache_enable", "trt_engine_cache_path"};
        const std::array values{"1", engine_cache.c_str()};
        Ort::ThrowOnError(
            Ort::GetApi().UpdateTensorRTProviderOptions(tensorrt, keys.data(), values.data(), keys.size()));
    }
    options.AppendExecutionProvider_TensorRT_V2(*tensorrt);
}

// Return the options of a session. Throws an Ort::Exception if the provider is not available, so that graphs do not run
// on the CPU silently. Only operators that the provider does not support still run on the CPU.
Ort::SessionOptions session_options(Provider provider, int threads, const std::string& engine_cache) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_ERROR);
    // With memory patterns, the second run of a shape would allocate a new block, beside the memory of the first run.
    options.DisableMemPattern();
    // Each session has its own threads. Without this option, the threads of the last graph would keep spinning on the
    // same cores while the next graph runs.
    options.AddConfigEntry(kOrtSessionOptionsConfigForceSpinningStop, "1");
    // Accept ONNX files only. ONNX Runtime's own format, which it recognizes by the file's suffix, may refer to other
    // files.
    options.AddConfigEntry(kOrtSessionOptionsConfigLoadModelFormat, "ONNX");
    if (provider == Provider::cpu) options.AddConfigEntry(kOrtSessionOptionsConfigUseEnvAllocators, "1");
    // Version 1.21 moves a transposition past a cubic Resize, and then cannot run the Resize.
    if (Ort::GetVersionString().starts_with("1.21.")) {
        options.AddConfigEntry(kOrtSessionOptionsDisableSpecifiedOptimizers, "TransposeOptimizer_CPUExecutionProvider");
    }
    if (provider == Provider::tensorrt) append_tensorrt(options, engine_cache);
    if (provider != Provider::cpu) append_cuda(options);
    return options;
}

// A session with the names of its inputs and outputs.
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
        const Tensor& array = *given(arrays, name, path);
        if (const auto* output = dynamic_cast<const Output*>(&array)) {
            binding.BindInput(name.c_str(), output->value);
            continue;
        }
        const auto type =
            std::find_if(types.begin(), types.end(), [&](auto& pair) { return pair.first == array.type; });
        binding.BindInput(name.c_str(),
                          Ort::Value::CreateTensor(host_memory(), const_cast<void*>(array.values()), array.bytes(),
                                                   array.shape.data(), array.shape.size(), type->second));
    }
}

// Return the options of a run. With `frees_memory`, the arena frees its unused memory at the end of the run. By default
// it keeps all memory that its largest run took, and arrays outside the arena may then find no memory.
Ort::RunOptions run_options(bool frees_memory) {
    if (!frees_memory) return Ort::RunOptions(nullptr);
    Ort::RunOptions options;
    options.AddConfigEntry(kOrtRunOptionsConfigEnableMemoryArenaShrinkage, "cpu:0");
    return options;
}

class OnnxRuntime : public Backend {
  public:
    OnnxRuntime(std::string name, const fs::path& folder, Provider provider, int threads,
                const std::string& engine_cache)
        : Backend(std::move(name), {}),
          folder_(folder),
          provider_(provider),
          threads_(threads),
          engine_cache_(engine_cache) {
        const std::vector<std::string> built = Ort::GetAvailableProviders();
        if (std::find(built.begin(), built.end(), name_of(provider)) == built.end()) {
            std::string found;
            for (const std::string& one : built) found += " " + one;
            throw BackendError(std::string("the backend requires ONNX Runtime's ") + name_of(provider) +
                               "; this build has" + found +
                               ": link a build for the GPU, such as the library of the package onnxruntime-gpu");
        }
        environment();  // the log of the environment must exist before providers are created
        try {
            session_options(provider_, threads_, engine_cache_);
        } catch (const Ort::Exception& error) {
            throw BackendError("the backend " + this->name + " cannot run on this machine (" + error.what() +
                               "): install an NVIDIA driver, CUDA 13 and cuDNN 9" +
                               (provider == Provider::tensorrt ? ", and TensorRT 10" : ""));
        }
    }

    Graph load(const GraphFile& graph, const std::vector<std::string>& on_host) override {
        const fs::path path = folder_ / graph.file.path;
        std::shared_ptr<Loaded> loaded;
        try {
            loaded = std::make_shared<Loaded>(path, session_options(provider_, threads_, engine_cache_));
        } catch (const Ort::Exception& error) {
            const std::string text = name + " cannot load this graph: " + error.what();
            if (is_out_of_memory(text)) throw OutOfMemory(path.string() + ": " + text);
            throw BundleError(BundleError::Kind::BrokenGraph, path, text);
        }
        const bool has_device = provider_ != Provider::cpu;
        const auto spares = spares_memory_;
        return [loaded, on_host, has_device, spares, text = path.string()](const Arrays& arrays, Place place) {
            try {
                Ort::IoBinding binding(loaded->session);
                bind_inputs(binding, *loaded, arrays, text);
                for (const std::string& name : loaded->outputs) {
                    const bool is_read = std::find(on_host.begin(), on_host.end(), name) != on_host.end();
                    const bool stays = has_device && place == Place::device && !is_read;
                    binding.BindOutput(name.c_str(), stays ? device_memory() : host_memory());
                }
                loaded->session.Run(run_options(*spares), binding);
                std::vector<Ort::Value> values = binding.GetOutputValues();
                Arrays out;
                for (std::size_t k = 0; k < values.size(); ++k) {
                    out[loaded->outputs[k]] = std::make_shared<Output>(std::move(values[k]));
                }
                return out;
            } catch (const Ort::Exception& error) {
                fail(text + ": " + error.what());
            }
        };
    }

    bool spare_memory() override {
        if (provider_ == Provider::cpu) *spares_memory_ = true;  // the arena that all graphs share is the CPU's
        return *spares_memory_;
    }

  private:
    const std::shared_ptr<std::atomic<bool>> spares_memory_ = std::make_shared<std::atomic<bool>>(false);
    fs::path folder_;
    Provider provider_;
    int threads_;
    std::string engine_cache_;
};

}  // namespace

std::unique_ptr<Backend> open_onnx_runtime(const fs::path& folder, Provider provider, int threads,
                                           const std::string& engine_cache) {
    find_library();
    constexpr std::array names{"onnxruntime cpu", "onnxruntime cuda", "onnxruntime tensorrt"};
    return std::make_unique<OnnxRuntime>(names[std::size_t(provider)], folder, provider, threads, engine_cache);
}

}  // namespace caflow::runtime
