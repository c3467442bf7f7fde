// Checks the ONNX file of a finished engine, which an execution provider of ONNX Runtime loads: a model with one node
// of the operator EPContext, which contains the compiled engine.
#pragma once

#include <string_view>

namespace caflow::runtime {

// Check that an ONNX file is such a model, and that it reads no other file. `contents` is the whole file. Throws a
// WrongGraph.
void check_engine_model(std::string_view contents);

}  // namespace caflow::runtime
