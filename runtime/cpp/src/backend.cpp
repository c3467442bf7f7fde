#include "backend.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "errors.hpp"

namespace caflow::runtime {

bool is_out_of_memory(const std::string& text) {
    std::string lower = text;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    constexpr std::array signs{"allocate memory", "alloc_failed",  "bad allocation",         "bad_alloc",
                               "out of memory",   "out_of_memory", "could not be allocated", "outofmemory"};
    return std::any_of(signs.begin(), signs.end(),
                       [&](const char* sign) { return lower.find(sign) != std::string::npos; });
}

void fail(const std::string& text) {
    if (is_out_of_memory(text)) throw OutOfMemory(text + ": use a smaller pixel_budget");
    throw BackendError(text);
}

const Array& given(const Arrays& arrays, const std::string& name, const std::string& graph) {
    if (const auto found = arrays.find(name); found != arrays.end()) return found->second;
    throw BackendError(graph + ": requires the input '" + name +
                       "', which the chain does not provide: "
                       "export the model again");
}

}  // namespace caflow::runtime
