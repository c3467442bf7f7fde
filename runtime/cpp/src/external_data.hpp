// Finds the files from which an ONNX file reads its weights, and checks its operators. ONNX Runtime reads any file that
// an ONNX file names, so a bundle must check these names. `operators.txt` of the Python runtime lists the operators.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "onnx_fields.hpp"

namespace caflow::runtime {

// Return the location of each piece of external data: a path relative to the folder of the ONNX file. `contents` is the
// whole ONNX file. Throws a WrongGraph if an operator is not listed, or if there are further graphs.
std::vector<std::string> external_files(std::string_view contents);

}  // namespace caflow::runtime
