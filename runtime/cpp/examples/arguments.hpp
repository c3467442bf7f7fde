// What the examples are given.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

#include <caflow/caflow.hpp>

// The model, on the backend that CAFLOW_BACKEND names, if it does: cpu, cuda, tensorrt, tensorrt-provider.
inline caflow::Model open_model(const char* bundle) {
    caflow::OpenOptions options;
    if (const char* backend = std::getenv("CAFLOW_BACKEND")) options.backend = backend;
    return caflow::Model(bundle, options);
}

inline double number_of(const std::string& text, const char* name) {
    std::size_t read = 0;
    double number = 0;
    try {
        number = std::stod(text, &read);
    } catch (const std::logic_error&) {
    }
    if (!read || read < text.size()) throw std::runtime_error(std::string(name) + ": wanted a number, got " + text);
    return number;
}

inline std::uint32_t samples_of(const char* text) {
    const double number = number_of(text, "N");
    if (number < 1 || number > 1 << 20 || number != static_cast<std::uint32_t>(number)) {
        throw std::runtime_error(std::string("N: wanted a number of samples, got ") + text);
    }
    return static_cast<std::uint32_t>(number);
}
