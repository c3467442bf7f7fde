// Follows every message that can contain a tensor, and skips all other fields. external_data.py does the same in
// Python.
#include "external_data.hpp"

#include <cstdint>
#include <map>

namespace caflow::runtime {

namespace {

constexpr int deepest = 100;                 // levels of nested messages; ONNX Runtime has the same limit
constexpr std::size_t longest_domain = 100;  // characters of a refused name in a message

enum class Part { model, graph, node, attribute, function, training, sparse, tensor, external, domain };

// For each part of an ONNX file: the numbers of the fields that lead to external data, and the part in each field.
const std::map<Part, std::map<std::uint64_t, Part>>& messages() {
    static const auto& known = *new std::map<Part, std::map<std::uint64_t, Part>>{
        {Part::model, {{7, Part::graph}, {20, Part::training}, {25, Part::function}}},
        {Part::graph, {{1, Part::node}, {5, Part::tensor}, {15, Part::sparse}}},
        {Part::node, {{5, Part::attribute}, {7, Part::domain}}},
        {Part::attribute,
         {{5, Part::tensor},
          {6, Part::graph},
          {10, Part::tensor},
          {11, Part::graph},
          {22, Part::sparse},
          {23, Part::sparse}}},
        {Part::function, {{7, Part::node}, {11, Part::attribute}}},
        {Part::training, {{1, Part::graph}, {2, Part::graph}}},
        {Part::sparse, {{1, Part::tensor}, {2, Part::tensor}}},
        {Part::tensor, {{13, Part::external}}},
    };
    return known;
}

// Add the locations of one entry of external data. The entry may have several keys and several values.
void add_locations(const std::vector<Field>& entry, std::vector<std::string>& locations) {
    constexpr std::uint64_t key = 1, value = 2;
    bool is_location = false, has_value = false;
    for (const Field& field : entry) is_location = is_location || (field.number == key && field.contents == "location");
    if (!is_location) return;
    for (const Field& field : entry) {
        if (field.number != value) continue;
        locations.emplace_back(field.contents);
        has_value = true;
    }
    if (!has_value) locations.emplace_back();
}

// Refuse operators that are not ONNX's own: they may read files, as EPContext of com.microsoft does.
void check_domain(std::string_view domain) {
    if (domain.empty() || domain == "ai.onnx") return;
    throw WrongGraph("operators must be ONNX's own; got one of '" + std::string(domain.substr(0, longest_domain)) +
                     "'");
}

}  // namespace

std::vector<std::string> external_files(std::string_view contents) {
    struct Nested {
        Part part;
        std::string_view contents;
        int depth;
    };
    std::vector<std::string> locations;
    std::vector<Nested> waiting{{Part::model, contents, 1}};
    while (!waiting.empty()) {
        const Nested message = waiting.back();
        waiting.pop_back();
        if (message.depth > deepest) {
            throw WrongGraph("must have at most " + std::to_string(deepest) + " levels of nested messages; got more");
        }
        const std::vector<Field> fields = onnx_fields(message.contents);
        if (message.part == Part::external) {
            add_locations(fields, locations);
            continue;
        }
        const auto& known = messages().at(message.part);
        for (const Field& field : fields) {
            const auto found = known.find(field.number);
            if (found == known.end()) continue;
            if (found->second == Part::domain) {
                check_domain(field.contents);
            } else {
                waiting.push_back({found->second, field.contents, message.depth + 1});
            }
        }
    }
    return locations;
}

}  // namespace caflow::runtime
