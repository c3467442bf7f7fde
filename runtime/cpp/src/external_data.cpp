// Follows every message that can contain a tensor, checks the operators on the way, and skips all other fields.
// external_data.py does the same in Python.
#include "external_data.hpp"

#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

namespace caflow::runtime {

namespace {

constexpr std::size_t longest_name = 100;  // characters of a refused name in a message

enum class Part { model, graph, node, attribute, sparse, tensor, external, operator_name, domain, refused };

// For each part of an ONNX file: the numbers of the fields that lead to external data or are checked, and the part in
// each field. Fields that would contain further graphs are refused: functions, training steps and inner graphs.
const std::map<Part, std::map<std::uint64_t, Part>>& messages() {
    static const auto& known = *new std::map<Part, std::map<std::uint64_t, Part>>{
        {Part::model, {{7, Part::graph}, {20, Part::refused}, {25, Part::refused}}},
        {Part::graph, {{1, Part::node}, {5, Part::tensor}, {15, Part::sparse}}},
        {Part::node, {{4, Part::operator_name}, {5, Part::attribute}, {7, Part::domain}}},
        {Part::attribute,
         {{5, Part::tensor},
          {6, Part::refused},
          {10, Part::tensor},
          {11, Part::refused},
          {22, Part::sparse},
          {23, Part::sparse}}},
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

std::string shown(std::string_view name) { return "'" + std::string(name.substr(0, longest_name)) + "'"; }

// Refuse operators that the exporter does not write: a Loop, for example, may never end.
void check_operator(std::string_view name) {
    static const auto& known = []() -> const auto& {
        std::istringstream names(CAFLOW_OPERATORS);
        return *new std::set<std::string, std::less<>>(std::istream_iterator<std::string>(names), {});
    }();
    if (known.contains(name)) return;
    throw WrongGraph("operators must be those that this version exports; got " + shown(name));
}

// Refuse operators that are not ONNX's own: they may read files, as EPContext of com.microsoft does.
void check_domain(std::string_view domain) {
    if (domain.empty() || domain == "ai.onnx") return;
    throw WrongGraph("operators must be ONNX's own; got one of " + shown(domain));
}

}  // namespace

std::vector<std::string> external_files(std::string_view contents) {
    struct Nested {
        Part part;
        std::string_view contents;
    };
    std::vector<std::string> locations;
    std::vector<Nested> waiting{{Part::model, contents}};
    while (!waiting.empty()) {
        const Nested message = waiting.back();
        waiting.pop_back();
        const std::vector<Field> fields = onnx_fields(message.contents);
        if (message.part == Part::external) {
            add_locations(fields, locations);
            continue;
        }
        const auto& known = messages().at(message.part);
        for (const Field& field : fields) {
            const auto found = known.find(field.number);
            if (found == known.end()) continue;
            switch (found->second) {
                case Part::refused:
                    throw WrongGraph("must have one graph and no inner graphs, functions or training steps; got more");
                case Part::operator_name:
                    check_operator(field.contents);
                    break;
                case Part::domain:
                    check_domain(field.contents);
                    break;
                default:
                    waiting.push_back({found->second, field.contents});
            }
        }
    }
    return locations;
}

}  // namespace caflow::runtime
