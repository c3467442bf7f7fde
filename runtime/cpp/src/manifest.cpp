#include "bundle.hpp"

#include <algorithm>
#include <array>

#include "errors.hpp"
#include "fields.hpp"

namespace caflow::runtime {

namespace fs = std::filesystem;
using Kind = BundleError::Kind;

namespace {

constexpr const char* format = "caflow-bundle";
constexpr int format_version = 1;
constexpr std::int64_t most_levels = 30;  // 2^(levels + 1) is a side in pixels

std::string quoted(const std::string& text) { return "'" + text + "'"; }

std::string shown(const std::vector<Size>& shape) {
    std::string text = "[";
    for (const Size& size : shape) {
        if (text.size() > 1) text += ", ";
        const auto* name = std::get_if<std::string>(&size);
        text += name ? quoted(*name) : std::to_string(std::get<std::int64_t>(size));
    }
    return text + "]";
}

// Before the fields, which another version may name otherwise.
void check_format(const Json& contents, const fs::path& path) {
    const auto found = [&](const char* name) { return contents.is_object() ? contents.value(name, Json()) : Json(); };
    if (found("format") == format && found("format_version") == format_version) return;
    const auto text = [](const Json& value) {
        return value.is_string() ? quoted(value.get<std::string>())
                                 : value.dump(-1, ' ', false, Json::error_handler_t::replace);
    };
    throw BundleError(Kind::UnknownFormat, path,
                      "wanted format " + quoted(format) + " version " + std::to_string(format_version) + ", got " +
                          text(found("format")) + " version " + text(found("format_version")) +
                          ": use the version of caflow-deploy that wrote it, or export the checkpoint again");
}

Size read_size(const Json& value, const std::string& where) {
    if (value.is_string()) return value.get<std::string>();
    return Fields::as_integer(value, where);
}

Port read_port(const Json& value, const std::string& where) {
    Fields fields(value, where);
    Port port{fields.text("name"), fields.text("type", {"float32", "float16", "bfloat16", "uint8", "int64"}),
              fields.list("shape", read_size)};
    fields.refuse_unknown();
    return port;
}

GraphFile read_graph(const Json& value, const std::string& where) {
    Fields fields(value, where);
    GraphFile graph{fields.text("name"), fields.file("file"), fields.list("inputs", read_port),
                    fields.list("outputs", read_port)};
    fields.number("operations_per_pixel");
    fields.refuse_unknown();
    return graph;
}

Model read_model(const Json& value, const std::string& where) {
    Fields fields(value, where);
    Model model;
    model.task = fields.text("task");
    for (const auto& [name, setting] : fields.object("task_settings").items()) {
        if (setting.is_string()) model.task_settings[name] = setting.get<std::string>();
        if (setting.is_number()) model.task_settings[name] = setting.get<double>();
        if (setting.is_boolean()) model.task_settings[name] = setting.get<bool>() ? 1.0 : 0.0;
    }
    model.scale = fields.count("scale");
    model.size_multiple = fields.count("size_multiple");
    model.levels = fields.count("levels");
    model.channels = fields.count("channels");
    fields.boolean("residual");
    fields.text("dependencies", {"unshared", "shared", "dual-glow"});
    model.noise_channels = fields.list("noise_channels", [](const Json& level, const std::string& place) {
        return Fields::list_of(level, place, Fields::as_count);
    });
    fields.refuse_unknown();
    return model;
}

// What a runtime does not read must be right, too.
void check_measurement(const Json& value, const std::string& where) {
    Fields fields(value, where);
    for (const char* name : {"graph", "what", "verified_with"}) fields.text(name);
    for (const char* name : {"max_error", "mean_error"}) fields.number(name);
    if (!(fields.number("tolerance") > 0)) {
        Fields::refuse("more than 0", fields["tolerance"], fields.place("tolerance"));
    }
    fields.refuse_unknown();
}

void check_source(const Json& value, const std::string& where) {
    Fields fields(value, where);
    for (const char* name : {"checkpoint_sha256", "checkpoint_format", "exporter_version"}) fields.text(name);
    fields.object("training");
    fields.refuse_unknown();
}

Manifest read_fields(const Json& contents, const fs::path& path) {
    Fields fields(contents, path.string() + ": $");
    fields.text("format");
    fields.integer("format_version");
    Manifest manifest{
        fields.text("precision", {"fp32", "fp16", "bf16"}),
        read_model(fields["model"], fields.place("model")),
        fields.list("graphs", read_graph),
        fields.list("weights", Fields::as_file),
    };
    fields.list("verification", [](const Json& value, const std::string& where) {
        check_measurement(value, where);
        return 0;
    });
    check_source(fields["source"], fields.place("source"));
    fields.refuse_unknown();
    return manifest;
}

// Of each task, the settings that a runtime needs, and what they may be; nothing is any number.
struct Setting {
    const char* task;
    const char* name;
    std::vector<std::string> kinds;
};

const std::array<Setting, 4>& known_settings() {
    static const std::array<Setting, 4> settings{{
        {"super-resolution", "down_filter", {"bicubic", "bilinear"}},
        {"inpainting", "mask", {"central", "box", "free-form"}},
        {"sketch", "low_threshold", {}},
        {"sketch", "high_threshold", {}},
    }};
    return settings;
}

std::string given(const Model& model, const Setting& setting) {
    const auto found = model.task_settings.find(setting.name);
    if (found == model.task_settings.end()) return "None";
    const auto* text = std::get_if<std::string>(&found->second);
    return text ? quoted(*text) : std::to_string(std::get<double>(found->second));
}

bool is_allowed(const Model& model, const Setting& setting) {
    const auto found = model.task_settings.find(setting.name);
    if (found == model.task_settings.end()) return false;
    const auto* text = std::get_if<std::string>(&found->second);
    if (setting.kinds.empty()) return !text;
    return text && std::find(setting.kinds.begin(), setting.kinds.end(), *text) != setting.kinds.end();
}

// Numbers that must fit each other, and settings that the runtime reads.
void check_model(const fs::path& path, const Model& model) {
    const std::int64_t squeezed = std::int64_t{1} << (std::min(model.levels, most_levels) + 1);
    if (model.levels > most_levels || model.size_multiple % squeezed || model.size_multiple % model.scale) {
        throw BundleError(Kind::WrongManifest, path,
                          "with " + std::to_string(model.levels) + " levels and a scale of " +
                              std::to_string(model.scale) + " wanted a size_multiple of " + std::to_string(squeezed) +
                              " and of " + std::to_string(model.scale) + ", got " +
                              std::to_string(model.size_multiple));
    }
    for (const Setting& setting : known_settings()) {
        if (model.task != setting.task || is_allowed(model, setting)) continue;
        std::string wanted = setting.kinds.empty() ? "a number" : "one of " + setting.kinds[0];
        for (std::size_t k = 1; k < setting.kinds.size(); ++k) wanted += ", " + setting.kinds[k];
        throw BundleError(Kind::WrongManifest, path,
                          "task_settings of " + quoted(model.task) + ": wanted " + setting.name + " to be " + wanted +
                              ", got " + given(model, setting));
    }
}

void check_port(const fs::path& path, const std::vector<Port>& ports, const std::string& graph, const char* name,
                const std::vector<Size>& shape) {
    const auto found = std::find_if(ports.begin(), ports.end(), [&](const Port& port) { return port.name == name; });
    if (found != ports.end() && found->shape == shape) return;
    throw BundleError(Kind::WrongShape, path,
                      "wanted " + graph + " with " + name + " of shape " + shown(shape) + ", got " +
                          (found == ports.end() ? "None" : shown(found->shape)));
}

// The graphs that every bundle of a model with so many levels holds.
std::vector<std::string> graph_names(std::int64_t levels) {
    std::vector<std::string> names{"encode"};
    for (const char* name : {"decode_", "reverse_", "forward_", "likelihood_"}) {
        for (std::int64_t j = 0; j < levels; ++j) names.push_back(name + std::to_string(j));
    }
    names.push_back("to_image");
    return names;
}

void check_graphs(const fs::path& path, const Manifest& manifest) {
    const Model& model = manifest.model;
    for (const std::string& name : graph_names(model.levels)) {
        if (manifest.find_graph(name)) continue;
        throw BundleError(
            Kind::MissingGraph, path,
            "with " + std::to_string(model.levels) + " levels wanted the graph " + quoted(name) + ", it is not listed");
    }
    if (std::int64_t(model.noise_channels.size()) != model.levels) {
        throw BundleError(Kind::WrongShape, path,
                          "wanted noise_channels of " + std::to_string(model.levels) + " levels, got " +
                              std::to_string(model.noise_channels.size()));
    }
    for (std::int64_t j = 0; j < model.levels; ++j) {
        std::int64_t channels = 0;
        for (const std::int64_t count : model.noise_channels[std::size_t(j)]) channels += count;
        const std::string decode = "decode_" + std::to_string(j);
        check_port(path, manifest.find_graph(decode)->inputs, decode, "z", {"rows", channels, "h", "w"});
    }
    const std::string finest = "reverse_" + std::to_string(model.levels - 1);
    const auto pixels = std::vector<Size>{"rows", "2*h", "2*w", model.channels};
    check_port(path, manifest.find_graph(finest)->outputs, finest, "pixels", pixels);
    const std::int64_t multiple = model.size_multiple / model.scale;
    const std::string factor = multiple > 1 ? std::to_string(multiple) + "*" : "";
    const auto condition = std::vector<Size>{"images", factor + "h", factor + "w", model.channels};
    check_port(path, manifest.find_graph("encode")->inputs, "encode", "condition", condition);
}

}  // namespace

void check_path(const fs::path& path, const File& file) {
    const fs::path inside = file.path;
    const bool climbs = std::find(inside.begin(), inside.end(), "..") != inside.end();
    const bool is_odd = file.path.find_first_of(std::string_view("\\:\0", 3)) != std::string::npos;
    if (inside.is_absolute() || climbs || is_odd || file.path.empty()) {
        throw BundleError(Kind::PathOutside, path, quoted(file.path) + " is not a path inside the bundle");
    }
}

const GraphFile* Manifest::find_graph(const std::string& name) const {
    const auto found =
        std::find_if(graphs.rbegin(), graphs.rend(), [&](const auto& graph) { return graph.name == name; });
    return found == graphs.rend() ? nullptr : &*found;
}

std::vector<File> Manifest::files() const {
    std::vector<File> files;
    for (const GraphFile& graph : graphs) files.push_back(graph.file);
    files.insert(files.end(), weights.begin(), weights.end());
    return files;
}

Manifest parse_manifest(std::string_view text, const fs::path& path) {
    const Json contents = parse_json(text, path);
    check_format(contents, path);
    Manifest manifest = read_fields(contents, path);
    check_model(path, manifest.model);
    check_graphs(path, manifest);
    for (const File& file : manifest.files()) check_path(path, file);
    return manifest;
}

}  // namespace caflow::runtime
