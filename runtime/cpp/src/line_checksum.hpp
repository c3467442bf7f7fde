// JSON texts for the checksum of a record: a field with the hash of all other fields; it shows whether a record
// was changed after it was written.
//
// The hash is computed from compact JSON as Python writes it, with the fields in a fixed order. So it does not depend
// on how the file is formatted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace caflow::runtime {

// Return a value as compact JSON, exactly as Python writes it.
std::string as_json(double number);
std::string as_json(std::int64_t number);
std::string as_json(const std::string& text);

template <class Value>
std::string as_json(const std::optional<Value>& value) {
    return value ? as_json(*value) : "null";
}

template <class Value>
std::string as_json(const std::vector<Value>& values) {
    std::string text;
    for (const Value& value : values) text += (text.empty() ? "" : ",") + as_json(value);
    return "[" + text + "]";
}

// Builder of a JSON object: fields appear in the order in which they are added.
class JsonObject {
  public:
    template <class Value>
    JsonObject& add(const char* name, const Value& value) {
        fields_ += (fields_.empty() ? "" : ",") + as_json(std::string(name)) + ":" + as_json(value);
        return *this;
    }

    std::string text() const { return "{" + fields_ + "}"; }

  private:
    std::string fields_;
};

}  // namespace caflow::runtime
