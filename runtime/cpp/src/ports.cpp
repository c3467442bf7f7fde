#include "ports.hpp"

#include <array>
#include <utility>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

constexpr std::array type_names{
    std::pair{Type::float32, "float32"}, std::pair{Type::float16, "float16"}, std::pair{Type::bfloat16, "bfloat16"},
    std::pair{Type::uint8, "uint8"},     std::pair{Type::int32, "int32"},     std::pair{Type::int64, "int64"},
};

std::string name_of(Type type) {
    for (const auto& [known, name] : type_names) {
        if (known == type) return name;
    }
    return "another type";
}

// Return the factor and the name of a named size: {2, "h"} for "2*h".
std::pair<std::int64_t, std::string> parts_of(const std::string& size) {
    const std::size_t star = size.find('*');
    if (star == std::string::npos) return {1, size};
    return {std::stoll(size), size.substr(star + 1)};  // at most five digits
}

// Whether a side of an array has the value of a size. A named size that is not known yet gets its value from the side.
bool fits(std::int64_t side, const Size& size, Sizes& sizes) {
    if (side < 1) return false;
    const auto* text = std::get_if<std::string>(&size);
    if (!text) return side == std::get<std::int64_t>(size);
    const auto [factor, name] = parts_of(*text);
    const std::int64_t known = sizes.emplace(name, side / factor).first->second;
    return known <= side && side == factor * known;
}

void check(const GraphFile& graph, const Port& port, const Tensor& array, Sizes& sizes,
           const std::filesystem::path& path) {
    bool is_right = name_of(array.type) == port.type && array.shape.size() == port.shape.size();
    for (std::size_t k = 0; is_right && k < port.shape.size(); ++k) {
        is_right = fits(array.shape[k], port.shape[k], sizes);
    }
    if (is_right) return;
    std::string known;
    for (const auto& [name, size] : sizes) known += (known.empty() ? "" : ", ") + name + " = " + std::to_string(size);
    const std::vector<Size> found(array.shape.begin(), array.shape.end());
    throw BundleError(BundleError::Kind::WrongShape, path,
                      "the graph " + graph.name + " must have " + port.name + " of type " + port.type + " and shape " +
                          shown(port.shape) + " (" + known + "); got " + name_of(array.type) + " and " + shown(found) +
                          ": export the model again");
}

}  // namespace

std::int64_t size_of(const Size& size, const Sizes& known) {
    const auto* text = std::get_if<std::string>(&size);
    if (!text) return std::get<std::int64_t>(size);
    const auto [factor, name] = parts_of(*text);
    if (const auto found = known.find(name); found != known.end()) return factor * found->second;
    throw BackendError("a graph has a size '" + name + "', of which no largest value is known: export the model again");
}

void check_inputs(const GraphFile& graph, const Arrays& given, Sizes& sizes, const std::filesystem::path& path) {
    for (const Port& port : graph.inputs) {
        if (const auto found = given.find(port.name); found != given.end()) {
            check(graph, port, *found->second, sizes, path);
        }
    }
}

void check_outputs(const GraphFile& graph, const Arrays& results, Sizes& sizes, const std::filesystem::path& path) {
    bool has_all = results.size() == graph.outputs.size();
    for (const Port& port : graph.outputs) has_all = has_all && results.contains(port.name);
    if (!has_all) {
        std::string wanted, got;
        for (const Port& port : graph.outputs) wanted += (wanted.empty() ? "" : ", ") + port.name;
        for (const auto& [name, array] : results) got += (got.empty() ? "" : ", ") + name;
        throw BundleError(BundleError::Kind::WrongShape, path,
                          "the graph " + graph.name + " must have the outputs " + wanted + "; got " + got +
                              ": export the model again");
    }
    for (const Port& port : graph.outputs) check(graph, port, *results.at(port.name), sizes, path);
}

}  // namespace caflow::runtime
