// Takes the place of the GPU sources where the library is built without TensorRT.
#include "backend.hpp"
#include "errors.hpp"

namespace caflow::runtime {

std::unique_ptr<Backend> open_tensorrt(const std::filesystem::path&, const Manifest&) {
    throw BackendError(
        "wanted TensorRT, this library was built without it: configure it with -DCAFLOW_TENSORRT=ON, where TensorRT's "
        "headers and the CUDA toolkit are");
}

}  // namespace caflow::runtime
