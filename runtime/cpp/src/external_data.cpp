// An ONNX file is a protocol buffer. It consists of fields, each with a number, a wire type and a value. A value can be
// a message, which consists of fields again (https://protobuf.dev/programming-guides/encoding,
// https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). This reader follows every message that can contain a tensor,
// and skips all other fields. external_data.py does the same in Python.
#include "external_data.hpp"

#include <cstdint>
#include <map>

namespace caflow::runtime {

namespace {

constexpr int deepest = 100;  // levels of nested messages; ONNX Runtime has the same limit
constexpr std::uint64_t largest_tag = (1ULL << 32) - 1;
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

// Field whose value is a sequence of bytes: a message, a string, or packed numbers.
struct Field {
    std::uint64_t number;
    std::string_view contents;
};

// Read a number of up to ten bytes, each with seven bits, lowest bits first. Remove the bytes from `rest`.
std::uint64_t take_varint(std::string_view& rest) {
    std::uint64_t value = 0;
    for (std::size_t place = 0; place < 10; ++place) {
        if (place >= rest.size()) throw WrongGraph("not an ONNX file: it ends inside an integer");
        const auto byte = static_cast<unsigned char>(rest[place]);
        value |= std::uint64_t(byte & 127) << (7 * place);
        if (byte < 128) {
            rest.remove_prefix(place + 1);
            return value;
        }
    }
    throw WrongGraph("not an ONNX file: an integer has more than ten bytes");
}

std::string_view take_bytes(std::string_view& rest, std::uint64_t size) {
    if (size > rest.size()) throw WrongGraph("not an ONNX file: it ends inside a field");
    const std::string_view taken = rest.substr(0, std::size_t(size));
    rest.remove_prefix(std::size_t(size));
    return taken;
}

std::vector<Field> fields_of(std::string_view rest) {
    std::vector<Field> fields;
    while (!rest.empty()) {
        const std::uint64_t tag = take_varint(rest), number = tag >> 3;
        if (!number || tag > largest_tag) throw WrongGraph("not an ONNX file: a field has an invalid number");
        switch (tag & 7) {
            case 0:
                take_varint(rest);
                break;
            case 1:
                take_bytes(rest, 8);
                break;
            case 2:
                fields.push_back({number, take_bytes(rest, take_varint(rest))});
                break;
            case 5:
                take_bytes(rest, 4);
                break;
            default:  // groups are obsolete
                throw WrongGraph("not an ONNX file: a field has a wire type that ONNX does not use");
        }
    }
    return fields;
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
    throw WrongGraph("operators must be ONNX's own; got one of '" +
                     std::string(domain.substr(0, longest_domain)) + "'");
}

}  // namespace

std::vector<std::string> external_files(std::string_view contents) {
    struct Message {
        Part part;
        std::string_view contents;
        int depth;
    };
    std::vector<std::string> locations;
    std::vector<Message> waiting{{Part::model, contents, 1}};
    while (!waiting.empty()) {
        const Message message = waiting.back();
        waiting.pop_back();
        if (message.depth > deepest) {
            throw WrongGraph("must have at most " + std::to_string(deepest) + " levels of nested messages; got more");
        }
        const std::vector<Field> fields = fields_of(message.contents);
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
