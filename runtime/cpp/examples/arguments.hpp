// Reads the arguments of the examples.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

#include <caflow/opencv.hpp>

// Open a model. The environment variable CAFLOW_BACKEND chooses the backend, such as cpu or cuda:1, and
// CAFLOW_PLUGIN_LIBRARY is the path of the library for tensorrt-rtx and ort:NAME.
inline caflow::Model open_model(const char* bundle) {
    caflow::OpenOptions options;
    if (const char* backend = std::getenv("CAFLOW_BACKEND")) options.backend = backend;
    if (const char* library = std::getenv("CAFLOW_PLUGIN_LIBRARY")) options.plugin_library = library;
    return caflow::Model(bundle, options);
}

// Return the number that a text contains. `name` is the name of the argument, for messages.
inline double number_of(const std::string& text, const char* name) {
    std::size_t read = 0;
    double number = 0;
    try {
        number = std::stod(text, &read);
    } catch (const std::logic_error&) {
    }
    if (!read || read < text.size()) throw std::runtime_error(std::string(name) + ": expected a number; got " + text);
    return number;
}

// Return the number of samples that a text contains.
inline std::uint32_t samples_of(const char* text) {
    const double number = number_of(text, "N");
    if (number < 1 || number > 1 << 20 || number != static_cast<std::uint32_t>(number)) {
        throw std::runtime_error(std::string("N: expected a number of samples from 1 to 2^20; got ") + text);
    }
    return static_cast<std::uint32_t>(number);
}
