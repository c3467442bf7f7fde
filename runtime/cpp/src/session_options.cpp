#include "session_options.hpp"

#include <onnxruntime_session_options_config_keys.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

// Names and values of options, as ONNX Runtime's C interface reads them.
struct NamesAndValues {
    explicit NamesAndValues(const ProviderOptions& options) {
        for (const auto& [name, value] : options) {
            names.push_back(name.c_str());
            values.push_back(value.c_str());
        }
    }

    std::vector<const char*> names, values;
};

void append_cuda(Ort::SessionOptions& options, const ProviderOptions& given) {
    OrtCUDAProviderOptionsV2* cuda = nullptr;
    Ort::ThrowOnError(Ort::GetApi().CreateCUDAProviderOptions(&cuda));
    const std::unique_ptr<OrtCUDAProviderOptionsV2, decltype(Ort::GetApi().ReleaseCUDAProviderOptions)> owner(
        cuda, Ort::GetApi().ReleaseCUDAProviderOptions);
    const NamesAndValues all(given);
    Ort::ThrowOnError(Ort::GetApi().UpdateCUDAProviderOptions(cuda, all.names.data(), all.values.data(), given.size()));
    options.AppendExecutionProvider_CUDA_V2(*cuda);
}

void append_tensorrt(Ort::SessionOptions& options, const ProviderOptions& given) {
    OrtTensorRTProviderOptionsV2* tensorrt = nullptr;
    Ort::ThrowOnError(Ort::GetApi().CreateTensorRTProviderOptions(&tensorrt));
    const std::unique_ptr<OrtTensorRTProviderOptionsV2, decltype(Ort::GetApi().ReleaseTensorRTProviderOptions)> owner(
        tensorrt, Ort::GetApi().ReleaseTensorRTProviderOptions);
    const NamesAndValues all(given);
    Ort::ThrowOnError(
        Ort::GetApi().UpdateTensorRTProviderOptions(tensorrt, all.names.data(), all.values.data(), given.size()));
    options.AppendExecutionProvider_TensorRT_V2(*tensorrt);
}

// Keep TF32 off in engines that a provider without such an option builds: the inverse functions of the flow would be
// inaccurate. NVIDIA's libraries read the variable when they are loaded.
void keep_tf32_off(const std::string& backend) {
    constexpr const char* variable = "NVIDIA_TF32_OVERRIDE";
    setenv(variable, "0", 0);
    if (std::getenv(variable) == std::string("0")) return;
    throw BackendError("the backend " + backend + " requires the environment variable " + variable +
                       " to be 0, because TF32 is too inaccurate; got '" + std::getenv(variable) + "': unset it");
}

void check_built_in(const Provider& provider) {
    const std::vector<std::string> built = Ort::GetAvailableProviders();
    if (std::find(built.begin(), built.end(), provider.name) != built.end()) return;
    std::string found;
    for (const std::string& one : built) found += " " + one;
    throw BackendError("the backend requires ONNX Runtime's " + provider.name + "; this build has" + found + ": " +
                       provider.requirements);
}

}  // namespace

OpenProvider::OpenProvider(const ProviderChoice& choice, const Settings& settings)
    : choice_(choice), cache_(settings.engine_cache), threads_(settings.threads) {
    const Provider& provider = choice_.provider;
    if (provider.is_plugin != !settings.plugin_library.empty()) {
        throw InputError(
            "plugin_library must be the path of a library with the backends tensorrt-rtx and ort:NAME, and "
            "no text with others; got '" +
            settings.plugin_library + "' with " + backend());
    }
    environment();  // the log of the environment must exist before providers are created
    if (!provider.has_tf32_option) keep_tf32_off(backend());
    if (provider.is_plugin) {
        plugin_ = open_plugin(choice_, settings.plugin_library);
    } else {
        check_built_in(provider);
        if (!is_cpu()) {
            cuda_memory_ =
                std::make_unique<Ort::MemoryInfo>("Cuda", OrtDeviceAllocator, choice_.device, OrtMemTypeDefault);
        }
    }
    try {
        options_for({});
    } catch (const Ort::Exception& error) {
        throw BackendError("the backend " + backend() + " cannot run on this machine (" + error.what() +
                           "): " + provider.requirements);
    }
}

bool OpenProvider::is_cpu() const { return choice_.provider.backend == "cpu"; }

Ort::SessionOptions OpenProvider::common_options() const {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads_);
    options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_ERROR);
    // With memory patterns, the second run of a shape would allocate a new block, beside the memory of the first run.
    options.DisableMemPattern();
    // Each session has its own threads. Without this option, the threads of the last graph would keep spinning on the
    // same cores while the next graph runs.
    options.AddConfigEntry(kOrtSessionOptionsConfigForceSpinningStop, "1");
    // Accept ONNX files only. ONNX Runtime's own format, which it recognizes by the file's suffix, may refer to other
    // files.
    options.AddConfigEntry(kOrtSessionOptionsConfigLoadModelFormat, "ONNX");
    if (is_cpu()) options.AddConfigEntry(kOrtSessionOptionsConfigUseEnvAllocators, "1");
    // Version 1.21 moves a transposition past a cubic Resize, and then cannot run the Resize.
    if (Ort::GetVersionString().starts_with("1.21.")) {
        options.AddConfigEntry(kOrtSessionOptionsDisableSpecifiedOptimizers, "TransposeOptimizer_CPUExecutionProvider");
    }
    return options;
}

Ort::SessionOptions OpenProvider::options_for(const ShapeRange& shapes) const {
    if (!choice_.provider.is_plugin && choice_.provider.engines.empty()) return options_for_copies();
    Ort::SessionOptions options = common_options();
    const ProviderOptions given = choice_.provider.options({choice_.device, cache_, shapes, threads_});
    if (choice_.provider.is_plugin) {
        append_plugin(options, plugin_, given);
    } else {
        append_tensorrt(options, given);
        append_cuda(options, cuda_provider().options({choice_.device, "", {}, 0}));  // for what TensorRT lacks
    }
    return options;
}

Ort::SessionOptions OpenProvider::options_for_copies() const {
    Ort::SessionOptions options = common_options();
    if (choice_.provider.is_plugin) {
        append_plugin(options, plugin_, {});
    } else if (!is_cpu()) {
        append_cuda(options, cuda_provider().options({choice_.device, "", {}, 0}));
    }
    return options;
}

}  // namespace caflow::runtime
