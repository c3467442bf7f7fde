// Records that show whether they are still what was written: their seal is the hash of all their other fields.
//
// They are hashed as the compact JSON that Python writes, fields in their order, so how a file spells them says
// nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace caflow::runtime {

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

// An object, field by field.
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
