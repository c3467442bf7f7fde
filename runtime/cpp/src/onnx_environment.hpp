// ONNX Runtime's headers, its library, and its environment, which exists once per process.
#pragma once

// ONNX Runtime's API pointer is set in find_library, when a backend is opened, and not by a static object. So the order
// in which static objects are initialized does not matter.
#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

namespace caflow::runtime {

// Set ONNX Runtime's API pointer. Call this first. Throws a BackendError if the library is older than the headers.
void find_library();

// Objects that are never destroyed, because threads of the application may outlive static objects.
Ort::Env& environment();
const Ort::MemoryInfo& host_memory();

}  // namespace caflow::runtime
