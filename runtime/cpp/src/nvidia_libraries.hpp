// Facts that NVIDIA's libraries tell about this machine. The libraries are found at run time, so that programs run
// without them.
#pragma once

#include <string>

namespace caflow::runtime {

struct Gpu {
    std::string name;                // such as "NVIDIA GeForce RTX 3090"
    std::string compute_capability;  // such as "8.6"
};

// Return the GPU with this number among those that CUDA shows to this process. Throws a BackendError if the driver
// cannot be used.
Gpu describe_gpu(int device);

// Return the version of a TensorRT library that this process has loaded, such as "1.7.1.116" for
// "libtensorrt_rtx.so.1". Throws a BackendError if it is not loaded.
std::string version_of_loaded(const std::string& library);

}  // namespace caflow::runtime
