// TensorRT, opened when it is first needed: an application that does not use it runs where it is not installed.
#pragma once

#include <NvInferRuntime.h>

#include <string>

namespace caflow::runtime {

extern const char* const flavor_of_headers;  // "tensorrt" or "rtx"

struct TensorRtLibrary {
    std::string version;  // major, minor, patch and build
    void* (*create_runtime)(void* logger, int version);
};

// A BackendError where it is not installed, or older than the headers.
const TensorRtLibrary& tensorrt_library();

// What TensorRT is given to say errors to; forget them; and what it has said since.
nvinfer1::ILogger& tensorrt_log();
void forget_errors_of_tensorrt();
std::string errors_of_tensorrt();

}  // namespace caflow::runtime
