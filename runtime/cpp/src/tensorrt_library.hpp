// Loads the TensorRT library when it is first needed, so that applications run without TensorRT if they do not use it.
#pragma once

#include <NvInferRuntime.h>

#include <string>

namespace caflow::runtime {

extern const char* const flavor_of_headers;  // "tensorrt" or "rtx", the flavor of the headers at compile time

struct TensorRtLibrary {
    std::string version;  // major, minor, patch and build
    void* (*create_runtime)(void* logger, int version);
};

// Return the loaded library. Throws a BackendError if it is not installed, or older than the headers.
const TensorRtLibrary& tensorrt_library();

// Return the logger that TensorRT reports errors to.
nvinfer1::ILogger& tensorrt_log();

// Discard the errors that were reported so far.
void forget_errors_of_tensorrt();

// Return the errors that were reported since then, as one text.
std::string errors_of_tensorrt();

}  // namespace caflow::runtime
