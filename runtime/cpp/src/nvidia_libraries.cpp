#include "nvidia_libraries.hpp"

#include <dlfcn.h>

#include <array>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

constexpr int capability_major = 75, capability_minor = 76;  // numbers of CUDA's attributes of a device
constexpr const char* driver_name = "libcuda.so.1";

template <class Function>
Function* find(void* library, const std::string& name, const std::string& function) {
    if (void* found = dlsym(library, function.c_str())) return reinterpret_cast<Function*>(found);
    throw BackendError("the backend requires the function " + function + " of " + name +
                       ", which has none: install a newer one");
}

void check(int code, const char* function) {
    if (code == 0) return;
    throw BackendError(std::string("the backend requires an NVIDIA GPU, but the driver's ") + function +
                       " failed with error " + std::to_string(code) +
                       ": check the number of the device and nvidia-smi");
}

}  // namespace

Gpu describe_gpu(int device) {
    void* driver = dlopen(driver_name, RTLD_NOW | RTLD_LOCAL);  // never closed: it has its own threads
    if (!driver) {
        throw BackendError(std::string("the backend requires an NVIDIA driver, whose library cannot be loaded (") +
                           dlerror() + "): install the driver");
    }
    int handle = 0, major = 0, minor = 0;
    std::array<char, 256> name{};
    const auto attribute = find<int(int*, int, int)>(driver, driver_name, "cuDeviceGetAttribute");
    check(find<int(unsigned)>(driver, driver_name, "cuInit")(0), "cuInit");
    check(find<int(int*, int)>(driver, driver_name, "cuDeviceGet")(&handle, device), "cuDeviceGet");
    check(find<int(char*, int, int)>(driver, driver_name, "cuDeviceGetName")(name.data(), int(name.size()) - 1, handle),
          "cuDeviceGetName");
    check(attribute(&major, capability_major, handle), "cuDeviceGetAttribute");
    check(attribute(&minor, capability_minor, handle), "cuDeviceGetAttribute");
    return {name.data(), std::to_string(major) + "." + std::to_string(minor)};
}

std::string version_of_loaded(const std::string& library) {
    void* loaded = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (!loaded)
        throw BackendError(
            "the backend requires " + library +
            ", which its provider has not loaded: install the version of TensorRT that the provider was built for");
    std::string version;
    for (const char* part : {"Major", "Minor", "Patch", "Build"}) {
        const int number = find<int()>(loaded, library, std::string("getInferLib") + part + "Version")();
        version += (version.empty() ? "" : ".") + std::to_string(number);
    }
    return version;
}

}  // namespace caflow::runtime
