// Which files an ONNX file reads its weights from. ONNX Runtime reads whatever an ONNX file names.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace caflow::runtime {

// Bytes are not an ONNX file, or one that a bundle must not hold.
class WrongGraph : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The location of each piece of external data: a path relative to the ONNX file's folder. May throw a WrongGraph.
std::vector<std::string> external_files(std::string_view contents);

}  // namespace caflow::runtime
