// Reads the fields of an ONNX file. An ONNX file is a protocol buffer. It consists of fields, each with a number, a
// wire type and a value. A value can be a message, which consists of fields again
// (https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace caflow::runtime {

// The bytes are not an ONNX file, or an ONNX file that is not allowed in a bundle.
class WrongGraph : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Field whose value is a sequence of bytes: a message, a string, or packed numbers.
struct Field {
    std::uint64_t number;
    std::string_view contents;
};

// Return the fields of a message whose values are bytes. The views point into `message`. Throws a WrongGraph.
std::vector<Field> onnx_fields(std::string_view message);

// Return the values of the integer fields of a message that have this number. Throws a WrongGraph.
std::vector<std::uint64_t> onnx_integers(std::string_view message, std::uint64_t number);

}  // namespace caflow::runtime
