#include "fields.hpp"

#include <algorithm>
#include <limits>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

constexpr std::int64_t largest_count = 1 << 16;  // so that products of several counts fit in 64 bits

[[noreturn]] void wrong(const std::string& where, const std::string& message) {
    throw BundleError(BundleError::Kind::WrongManifest, where, message);
}

}  // namespace

Fields::Fields(const Json& value, std::string where) : value_(value), where_(std::move(where)) {
    if (!value.is_object()) refuse("an object", value, where_);
}

const Json& Fields::operator[](const char* name) {
    const auto found = value_.find(name);
    if (found == value_.end()) wrong(where_, std::string("the field `") + name + "` is missing");
    known_.insert(name);
    return *found;
}

std::string Fields::text(const char* name) {
    const Json& value = (*this)[name];
    if (!value.is_string()) refuse("a string", value, place(name));
    return value.get<std::string>();
}

std::string Fields::text(const char* name, std::initializer_list<const char*> allowed) {
    std::string value = text(name);
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return value;
    std::string wanted = "one of:";
    for (const char* one : allowed) wanted += std::string(" ") + one;
    refuse(wanted, (*this)[name], place(name));
}

std::int64_t Fields::integer(const char* name) { return as_integer((*this)[name], place(name)); }

std::int64_t Fields::count(const char* name) { return as_count((*this)[name], place(name)); }

double Fields::number(const char* name) {
    const Json& value = (*this)[name];
    if (!value.is_number()) refuse("a number", value, place(name));
    return value.get<double>();
}

bool Fields::boolean(const char* name) {
    const Json& value = (*this)[name];
    if (!value.is_boolean()) refuse("true or false", value, place(name));
    return value.get<bool>();
}

File Fields::file(const char* name) { return as_file((*this)[name], place(name)); }

File Fields::as_file(const Json& value, const std::string& where) {
    Fields fields(value, where);
    const Json& bytes = fields["bytes"];
    File file{fields.text("path"),
              as_integer(bytes, fields.place("bytes"), 0, std::numeric_limits<std::int64_t>::max()),
              fields.text("sha256")};
    fields.refuse_unknown();
    return file;
}

const Json& Fields::object(const char* name) {
    const Json& value = (*this)[name];
    if (!value.is_object()) refuse("an object", value, place(name));
    return value;
}

std::int64_t Fields::as_integer(const Json& value, const std::string& where) {
    if (!value.is_number_integer()) refuse("an integer", value, where);
    return value.get<std::int64_t>();  // parse_json refuses integers that do not fit
}

std::int64_t Fields::as_count(const Json& value, const std::string& where) {
    return as_integer(value, where, 1, largest_count);
}

std::int64_t Fields::as_integer(const Json& value, const std::string& where, std::int64_t lowest,
                                std::int64_t highest) {
    const std::int64_t found = as_integer(value, where);
    if (found < lowest || found > highest) {
        refuse("an integer from " + std::to_string(lowest) + " to " + std::to_string(highest), value, where);
    }
    return found;
}

double Fields::as_number(const Json& value, const std::string& where, double lowest, double highest) {
    if (!value.is_number()) refuse("a number", value, where);
    const auto found = value.get<double>();
    if (!(found >= lowest && found <= highest)) {
        refuse("a number from " + Json(lowest).dump() + " to " + Json(highest).dump(), value, where);
    }
    return found;
}

void Fields::refuse_unknown() const {
    for (const auto& [name, value] : value_.items()) {
        if (!known_.contains(name)) wrong(where_, "contains the unknown field `" + name + "`");
    }
}

void Fields::refuse(const std::string& wanted, const Json& got, const std::string& where) {
    const bool is_short = !got.is_structured();
    const std::string shown = is_short ? got.dump(-1, ' ', false, Json::error_handler_t::replace) : got.type_name();
    wrong(where, "expected " + wanted + "; got " + shown);
}

}  // namespace caflow::runtime
