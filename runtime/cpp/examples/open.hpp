// The model of the examples.
#pragma once

#include <cstdlib>

#include <caflow/caflow.hpp>

// On the backend that CAFLOW_BACKEND names, if it does: cpu, cuda, tensorrt, tensorrt-provider.
inline caflow::Model open_model(const char* bundle) {
    caflow::OpenOptions options;
    if (const char* backend = std::getenv("CAFLOW_BACKEND")) options.backend = backend;
    return caflow::Model(bundle, options);
}
