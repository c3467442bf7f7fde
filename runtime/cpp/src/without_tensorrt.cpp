// Replaces the GPU sources if the library is built without TensorRT.
#include "backend.hpp"
#include "errors.hpp"

namespace caflow::runtime {

std::unique_ptr<Backend> open_tensorrt(const std::filesystem::path&, const Manifest&) {
    throw BackendError(
        "the backend requires TensorRT, but this library was built without it: configure it with -DCAFLOW_TENSORRT=ON "
        "on a machine with TensorRT's headers and the CUDA toolkit");
}

}  // namespace caflow::runtime
