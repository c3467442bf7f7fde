// Finds the files from which an ONNX file reads its weights. ONNX Runtime reads any file that an ONNX file names, so a
// bundle must check these names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "onnx_fields.hpp"

namespace caflow::runtime {

// Return the location of each piece of external data: a path relative to the folder of the ONNX file. `contents` is the
// whole ONNX file. Throws a WrongGraph.
std::vector<std::string> external_files(std::string_view contents);

}  // namespace caflow::runtime
