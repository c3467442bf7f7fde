// Finds the files from which an ONNX file reads its weights. ONNX Runtime reads any file that an ONNX file names, so a
// bundle must check these names.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace caflow::runtime {

// The bytes are not an ONNX file, or an ONNX file that is not allowed in a bundle.
class WrongGraph : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Return the location of each piece of external data: a path relative to the folder of the ONNX file. `contents` is the
// whole ONNX file. Throws a WrongGraph.
std::vector<std::string> external_files(std::string_view contents);

}  // namespace caflow::runtime
