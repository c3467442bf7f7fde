// Plug-in libraries: execution providers that are not built into ONNX Runtime's library, such as TensorRT-RTX's and
// OpenVINO's. They require headers and a library of ONNX Runtime 1.23 or newer.
#pragma once

#include "onnx_environment.hpp"
#include "providers.hpp"

struct OrtEpDevice;  // older headers do not have it

namespace caflow::runtime {

// A device of a plug-in. ONNX Runtime owns both objects for the life of the process.
struct PluginDevice {
    const OrtEpDevice* device = nullptr;
    const OrtMemoryInfo* memory = nullptr;  // memory of the device; nullptr if arrays are in host memory
};

// Register the library at `path`, once per process, and return the device that was chosen. Throws a BackendError.
PluginDevice open_plugin(const ProviderChoice& choice, const std::string& path);

// Make a session run on a device. Throws an Ort::Exception.
void append_plugin(Ort::SessionOptions& options, const PluginDevice& device, const ProviderOptions& given);

}  // namespace caflow::runtime
