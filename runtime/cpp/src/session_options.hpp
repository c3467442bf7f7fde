// Session options of ONNX Runtime for an execution provider, whether it is built in or a plug-in library.
#pragma once

#include <memory>
#include <string>

#include "onnx_environment.hpp"
#include "plugin_library.hpp"
#include "providers.hpp"
#include "settings.hpp"

namespace caflow::runtime {

// A provider that can be used on this machine. It does not change, so any thread may use it.
class OpenProvider {
  public:
    // Throws an InputError if the settings do not belong to the provider, or a BackendError if it cannot be used.
    OpenProvider(const ProviderChoice& choice, const Settings& settings);

    // Return options for a session on the provider. Throws an Ort::Exception if the provider is not available, so that
    // graphs do not run on the CPU silently. Only operators that the provider does not support still run there.
    Ort::SessionOptions options_for(const ShapeRange& shapes) const;

    // Return options for a session that copies an array to the device, which needs no engine.
    Ort::SessionOptions options_for_copies() const;

    // Return the memory in which arrays stay between graphs, or nullptr if it is host memory.
    const OrtMemoryInfo* device_memory() const { return cuda_memory_ ? *cuda_memory_ : plugin_.memory; }

    bool is_cpu() const;
    std::string backend() const { return choice_.backend(); }

  private:
    Ort::SessionOptions common_options() const;

    const ProviderChoice choice_;
    const std::string cache_;
    const int threads_;
    std::unique_ptr<Ort::MemoryInfo> cuda_memory_;
    PluginDevice plugin_;
};

}  // namespace caflow::runtime
