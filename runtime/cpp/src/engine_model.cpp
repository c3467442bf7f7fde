#include "engine_model.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "onnx_fields.hpp"

namespace caflow::runtime {

namespace {

// Numbers of the fields of ONNX files: of a model, a graph, a node and an attribute.
constexpr std::uint64_t model_graph = 7, model_training = 20, model_function = 25;
constexpr std::uint64_t graph_node = 1, graph_initializer = 5, graph_sparse_initializer = 15;
constexpr std::uint64_t node_op_type = 4, node_attribute = 5, node_domain = 7;
constexpr std::uint64_t attribute_name = 1, attribute_integer = 3, attribute_text = 4, attribute_documentation = 13;

constexpr std::size_t max_name_bytes = 100;  // characters of a refused name in a message

using Numbers = std::initializer_list<std::uint64_t>;

std::string shown(std::string_view name) { return "'" + std::string(name.substr(0, max_name_bytes)) + "'"; }

std::vector<std::string_view> contents_of(const std::vector<Field>& fields, Numbers numbers) {
    std::vector<std::string_view> found;
    for (const Field& field : fields) {
        for (const std::uint64_t number : numbers) {
            if (field.number == number) found.push_back(field.contents);
        }
    }
    return found;
}

// Return the only value of a field. If there are several, readers differ in which one they use. Throws a WrongGraph.
std::string_view only_one(const std::vector<Field>& fields, std::uint64_t number, const std::string& what) {
    const auto found = contents_of(fields, {number});
    if (found.size() == 1) return found[0];
    throw WrongGraph("must have one " + what + "; got " + std::to_string(found.size()));
}

void check_none(const std::vector<Field>& fields, Numbers numbers, const std::string& what) {
    if (!contents_of(fields, numbers).empty()) throw WrongGraph("must have one node and nothing else; got " + what);
}

// Return the attributes of a node, as messages by name. They may be numbers and texts only: others can name files.
std::map<std::string, std::string_view> attributes_of(const std::vector<Field>& node) {
    std::map<std::string, std::string_view> attributes;
    for (const std::string_view contents : contents_of(node, {node_attribute})) {
        const std::vector<Field> fields = onnx_fields(contents);
        const std::string name(only_one(fields, attribute_name, "name in each attribute"));
        const auto known = contents_of(fields, {attribute_name, attribute_text, attribute_documentation});
        if (known.size() < fields.size()) {
            throw WrongGraph("the attribute " + shown(name) + " must be a number or a text; got another type");
        }
        if (!attributes.emplace(name, contents).second) {
            throw WrongGraph("must have one attribute " + shown(name) + "; got two");
        }
    }
    return attributes;
}

}  // namespace

void check_engine_model(std::string_view contents) {
    const std::vector<Field> model = onnx_fields(contents);
    check_none(model, {model_training, model_function}, "functions or training steps");
    const std::vector<Field> graph = onnx_fields(only_one(model, model_graph, "graph"));
    check_none(graph, {graph_initializer, graph_sparse_initializer}, "weights");
    const std::vector<Field> node = onnx_fields(only_one(graph, graph_node, "node"));
    const std::string_view op_type = only_one(node, node_op_type, "operator");
    const auto domains = contents_of(node, {node_domain});  // ONNX's own operators need none
    if (op_type != "EPContext" || domains != std::vector<std::string_view>{"com.microsoft"}) {
        throw WrongGraph("must have a node EPContext of com.microsoft; got " + shown(op_type));
    }
    const auto attributes = attributes_of(node);
    const auto mode = attributes.find("embed_mode"), engine = attributes.find("ep_cache_context");
    if (mode == attributes.end() || engine == attributes.end()) {
        throw WrongGraph("must have the attributes embed_mode and ep_cache_context; got others");
    }
    const auto bytes = only_one(onnx_fields(engine->second), attribute_text, "text in ep_cache_context");
    if (onnx_integers(mode->second, attribute_integer) != std::vector<std::uint64_t>{1}) {
        throw WrongGraph("must contain the engine, with embed_mode 1; got the name of a file, " + shown(bytes));
    }
}

}  // namespace caflow::runtime
