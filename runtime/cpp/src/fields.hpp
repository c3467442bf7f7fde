// Strict reader of a JSON object. A field that is missing, unknown or of the wrong type is a BundleError.
//
// Read every expected field first, then call refuse_unknown.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "bundle.hpp"
#include "strict_json.hpp"

namespace caflow::runtime {

class Fields {
  public:
    // `where` is a prefix for messages: the file's path and the place in it, such as "manifest.json: $.model".
    Fields(const Json& value, std::string where);

    bool has(const char* name) const { return value_.contains(name); }  // for fields that are optional
    const Json& operator[](const char* name);                           // value of any type
    std::string text(const char* name);
    std::string text(const char* name, std::initializer_list<const char*> allowed);
    std::int64_t integer(const char* name);
    std::int64_t count(const char* name);
    double number(const char* name);
    bool boolean(const char* name);
    File file(const char* name);
    const Json& object(const char* name);

    // Return the results of `read` for every element of an array. `read` gets the element and its place for messages.
    template <class Read>
    auto list(const char* name, Read read) {
        return list_of((*this)[name], place(name), read);
    }

    template <class Read>
    static auto list_of(const Json& value, const std::string& where, Read read) {
        if (!value.is_array()) refuse("an array", value, where);
        std::vector<decltype(read(value, where))> values;
        values.reserve(value.size());
        for (const Json& element : value) {
            values.push_back(read(element, where + "[" + std::to_string(values.size()) + "]"));
        }
        return values;
    }

    static File as_file(const Json& value, const std::string& where);
    static std::int64_t as_integer(const Json& value, const std::string& where);
    static std::int64_t as_count(const Json& value, const std::string& where);
    static std::int64_t as_integer(const Json& value, const std::string& where, std::int64_t lowest,
                                   std::int64_t highest);
    static double as_number(const Json& value, const std::string& where, double lowest, double highest);

    std::string place(const char* name) const { return where_ + "." + name; }
    void refuse_unknown() const;  // throw if the object has a field that was not read

    // Throw a BundleError: "where: expected …; got …".
    [[noreturn]] static void refuse(const std::string& wanted, const Json& got, const std::string& where);

  private:
    const Json& value_;
    std::string where_;
    std::set<std::string> known_;
};

}  // namespace caflow::runtime
