// TensorRT, opened when it is first needed: an application that does not use it runs where it is not installed.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <string>

namespace caflow::runtime {

// What the headers are of: "tensorrt" or "rtx".
extern const char* const flavor;

struct TensorRtLibrary {
    std::string version;  // as of its package
    void* (*create_runtime)(void* logger, int version);
};

// A BackendError where it is not installed.
const TensorRtLibrary& tensorrt_library();

// What TensorRT is given to say errors to, and what it said last.
nvinfer1::ILogger& tensorrt_log();
std::string last_error_of_tensorrt();

}  // namespace caflow::runtime
