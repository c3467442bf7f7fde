#include "plugin_library.hpp"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "errors.hpp"

namespace caflow::runtime {

#if ORT_API_VERSION >= 23

namespace {

// Register a library under a name, unless it is registered already.
void register_library(const std::string& name, const std::string& path) {
    static std::mutex mutex;
    static auto& registered = *new std::map<std::string, std::string>;  // names by path; never destroyed
    const std::lock_guard lock(mutex);
    const std::string whole = std::filesystem::absolute(path).lexically_normal().string();
    if (registered.contains(whole)) return;
    environment().RegisterExecutionProviderLibrary(name.c_str(), whole);
    registered[whole] = name;
}

const OrtMemoryInfo* memory_of(const Ort::ConstEpDevice& device) {
    const OrtMemoryInfo* memory = device.GetMemoryInfo(OrtDeviceMemoryType_DEFAULT);
    if (!memory) return nullptr;
    OrtMemoryInfoDeviceType type{};
    Ort::GetApi().MemoryInfoGetDeviceType(memory, &type);
    return type == OrtMemoryInfoDeviceType_CPU ? nullptr : memory;
}

const char* name_of(OrtHardwareDeviceType type) {
    if (type == OrtHardwareDeviceType_CPU) return "CPU";
    return type == OrtHardwareDeviceType_GPU ? "GPU" : "NPU";
}

}  // namespace

PluginDevice open_plugin(const ProviderChoice& choice, const std::string& path) {
    const std::string backend = choice.backend();
    std::vector<Ort::ConstEpDevice> devices;
    std::string known;
    try {
        register_library(choice.provider.name, path);
        for (const Ort::ConstEpDevice& device : environment().GetEpDevices()) {
            known +=
                (known.empty() ? "" : ", ") + std::string(device.EpName()) + " on " + name_of(device.Device().Type());
            if (is_same_provider(device.EpName(), choice.provider.name)) devices.push_back(device);
        }
    } catch (const Ort::Exception& error) {
        throw BackendError("the backend " + backend + " cannot load " + path + " (" + error.what() +
                           "): " + choice.provider.requirements);
    }
    if (std::size_t(choice.device) < devices.size()) {
        const Ort::ConstEpDevice& device = devices[std::size_t(choice.device)];
        return {device, memory_of(device)};
    }
    throw BackendError("the backend " + backend + " has no device of this number: " + path + " offers " +
                       std::to_string(devices.size()) + " for " + choice.provider.name + "; ONNX Runtime has " + known +
                       ": " + choice.provider.requirements);
}

void append_plugin(Ort::SessionOptions& options, const PluginDevice& device, const ProviderOptions& given) {
    const std::unordered_map<std::string, std::string> values(given.begin(), given.end());
    options.AppendExecutionProvider_V2(environment(), {Ort::ConstEpDevice(device.device)}, values);
}

#else

PluginDevice open_plugin(const ProviderChoice& choice, const std::string&) {
    throw BackendError("the backend " + choice.backend() +
                       " requires a library of caflow that was built with headers "
                       "of ONNX Runtime 1.23 or newer; got 1." +
                       std::to_string(ORT_API_VERSION) + ": build it with newer headers in OnnxRuntime_INCLUDE_DIR");
}

void append_plugin(Ort::SessionOptions&, const PluginDevice&, const ProviderOptions&) {}

#endif

}  // namespace caflow::runtime
