#include "bundle.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "errors.hpp"
#include "fields.hpp"

namespace caflow::runtime {

namespace fs = std::filesystem;
using Kind = BundleError::Kind;

namespace {

constexpr const char* format = "caflow-bundle";
constexpr int format_version = 1;
constexpr std::int64_t most_levels = 15;  // because 2^(levels + 1) divides size_multiple, which is at most 2^16
constexpr std::int64_t largest_size = (std::int64_t{1} << 31) - 1;
constexpr std::size_t path_bytes = 255;       // longest path: common file systems limit a file name to this
constexpr std::size_t axes = 4, share_axes = 3;  // of arrays that graphs pass on, and of shares

std::string quoted(const std::string& text) { return "'" + text + "'"; }

// Check format and version before the fields, because another version may have other fields.
void check_format(const Json& contents, const fs::path& path) {
    const auto found = [&](const char* name) { return contents.is_object() ? contents.value(name, Json()) : Json(); };
    if (found("format") == format && found("format_version") == format_version) return;
    const auto text = [](const Json& value) {
        return value.is_string() ? quoted(value.get<std::string>())
                                 : value.dump(-1, ' ', false, Json::error_handler_t::replace);
    };
    throw BundleError(Kind::UnknownFormat, path,
                      "expected format " + quoted(format) + " version " + std::to_string(format_version) + "; got " +
                          text(found("format")) + " version " + text(found("format_version")) +
                          ": use the version of caflow-deploy that wrote the file, or export the checkpoint again");
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_'; }

// Whether a text is a name such as "h", or a multiple of a name such as "12*h".
bool is_named_size(std::string_view text) {
    if (const std::size_t star = text.find('*'); star != std::string_view::npos) {
        const std::string_view factor = text.substr(0, star);
        if (factor.empty() || factor.size() > 5 || factor[0] == '0') return false;
        if (!std::all_of(factor.begin(), factor.end(), is_digit)) return false;
        text.remove_prefix(star + 1);
    }
    return !text.empty() && is_letter(text[0]) &&
           std::all_of(text.begin(), text.end(), [](char c) { return is_letter(c) || is_digit(c); });
}

Size read_size(const Json& value, const std::string& where) {
    if (!value.is_string()) return Fields::as_integer(value, where, 1, largest_size);
    std::string text = value.get<std::string>();
    if (!is_named_size(text)) Fields::refuse("a size such as 3, 'h' or '2*h'", value, where);
    return text;
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
    model.levels = Fields::as_integer(fields["levels"], fields.place("levels"), 1, most_levels);
    model.channels = fields.count("channels");
    fields.boolean("residual");
    fields.text("dependencies", {"unshared", "shared", "dual-glow"});
    model.noise_channels = fields.list("noise_channels", [](const Json& level, const std::string& place) {
        return Fields::list_of(level, place, Fields::as_count);
    });
    fields.refuse_unknown();
    return model;
}

// Check a measurement. The runtime does not use it, but the whole manifest must follow the format.
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
        fields.text("precision", {"fp32", "fp16", "bf16", "int8"}),
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

// A task setting that the runtime needs, and its allowed values. No values: any number is allowed.
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

// Check that the model's numbers fit together, and that the task settings that the runtime needs are valid.
void check_model(const fs::path& path, const Model& model) {
    const std::int64_t squeezed = std::int64_t{1} << (model.levels + 1);
    if (model.size_multiple % squeezed || model.size_multiple % model.scale) {
        throw BundleError(Kind::WrongManifest, path,
                          "with " + std::to_string(model.levels) + " levels and a scale of " +
                              std::to_string(model.scale) + ", size_multiple must be a multiple of " +
                              std::to_string(squeezed) + " and of " + std::to_string(model.scale) + "; got " +
                              std::to_string(model.size_multiple));
    }
    for (const Setting& setting : known_settings()) {
        if (model.task != setting.task || is_allowed(model, setting)) continue;
        std::string wanted = setting.kinds.empty() ? "a number" : "one of " + setting.kinds[0];
        for (std::size_t k = 1; k < setting.kinds.size(); ++k) wanted += ", " + setting.kinds[k];
        throw BundleError(Kind::WrongManifest, path,
                          "task_settings of " + quoted(model.task) + ": " + setting.name + " must be " + wanted +
                              "; got " + given(model, setting));
    }
}

void check_port(const fs::path& path, const std::vector<Port>& ports, const std::string& graph, const char* name,
                const std::vector<Size>& shape) {
    const auto found = std::find_if(ports.begin(), ports.end(), [&](const Port& port) { return port.name == name; });
    if (found != ports.end() && found->shape == shape) return;
    throw BundleError(Kind::WrongShape, path,
                      "the graph " + graph + " must have " + name + " of shape " + shown(shape) + "; got " +
                          (found == ports.end() ? "None" : shown(found->shape)));
}

// Return the names of the graphs that every bundle of a model with this number of levels contains.
std::vector<std::string> graph_names(std::int64_t levels) {
    std::vector<std::string> names{"encode"};
    for (const char* name : {"decode_", "reverse_", "forward_", "likelihood_"}) {
        for (std::int64_t j = 0; j < levels; ++j) names.push_back(name + std::to_string(j));
    }
    names.push_back("to_image");
    return names;
}

// Return, for each graph, the outputs that the chain of graphs requires, and their types.
std::map<std::string, std::map<std::string, std::string>> needed_outputs(std::int64_t levels) {
    const std::string floats = "float32", bytes = "uint8";
    std::map<std::string, std::map<std::string, std::string>> outputs{
        {"encode", {{"prepared", bytes}}},
        {"to_image", {{"integers", bytes}}},
        {"dequantize", {{"pixels", floats}, {"share", floats}}},
    };
    for (std::int64_t j = 0; j < levels; ++j) {
        const std::string level = "_" + std::to_string(j);
        outputs["decode" + level] = {{"latent", floats}, {"share", floats}};
        outputs["reverse" + level] = {{j == levels - 1 ? "pixels" : "next_carry", floats}, {"share", floats}};
        outputs["forward" + level] = {{"latent", floats}, {"share", floats}};
        if (j > 0) outputs["forward" + level]["next_carry"] = floats;
        outputs["likelihood" + level] = {{"z", floats}, {"share", floats}};
    }
    return outputs;
}

// Check an output that the chain reads: its type, its number of sizes and its first size, which are the same for all
// models.
void check_output(const fs::path& path, const GraphFile& graph, const std::string& name, const std::string& type) {
    const Size first = graph.name == "encode" ? "images" : "rows";
    const std::size_t count = name == "share" ? share_axes : axes;
    const auto found = std::find_if(graph.outputs.begin(), graph.outputs.end(),
                                    [&](const Port& port) { return port.name == name; });
    if (found != graph.outputs.end() && found->type == type && found->shape.size() == count &&
        found->shape[0] == first) {
        return;
    }
    throw BundleError(Kind::WrongShape, path,
                      "the graph " + graph.name + " must have the output " + name + " of type " + type + " with " +
                          std::to_string(count) + " sizes, the first of them " +
                          quoted(std::get<std::string>(first)) + "; got " +
                          (found == graph.outputs.end() ? "None" : found->type + " " + shown(found->shape)));
}

void check_graphs(const fs::path& path, const Manifest& manifest) {
    const Model& model = manifest.model;
    for (const std::string& name : graph_names(model.levels)) {
        if (manifest.find_graph(name)) continue;
        throw BundleError(
            Kind::MissingGraph, path,
            "a model with " + std::to_string(model.levels) + " levels requires the graph " + quoted(name) +
                ", which is not listed");
    }
    if (std::int64_t(model.noise_channels.size()) != model.levels) {
        throw BundleError(Kind::WrongShape, path,
                          "noise_channels must have " + std::to_string(model.levels) + " entries, one per level; got " +
                              std::to_string(model.noise_channels.size()));
    }
    for (std::int64_t j = 0; j < model.levels; ++j) {
        const auto flows = std::int64_t(model.noise_channels[std::size_t(j)].size());
        if (flows < 1 || flows > model.levels - j) {
            throw BundleError(Kind::WrongShape, path,
                              "noise_channels of level " + std::to_string(j) + " must have 1 to " +
                                  std::to_string(model.levels - j) + " entries; got " + std::to_string(flows));
        }
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
    for (const auto& [name, outputs] : needed_outputs(model.levels)) {
        if (const GraphFile* graph = manifest.find_graph(name)) {  // dequantize is optional
            for (const auto& [output, type] : outputs) check_output(path, *graph, output, type);
        }
    }
}

// Check that no name occurs twice: different readers might use different ones.
template <class Named>
void check_names(const fs::path& path, const std::string& what, const std::vector<Named>& named) {
    std::set<std::string> names;
    for (const Named& one : named) {
        if (names.insert(one.name).second) continue;
        throw BundleError(Kind::WrongManifest, path,
                          "the " + what + " must have different names; got " + quoted(one.name) + " twice");
    }
}

}  // namespace

std::string shown(const std::vector<Size>& shape) {
    std::string text = "[";
    for (const Size& size : shape) {
        if (text.size() > 1) text += ", ";
        const auto* name = std::get_if<std::string>(&size);
        text += name ? quoted(*name) : std::to_string(std::get<std::int64_t>(size));
    }
    return text + "]";
}

void check_path(const fs::path& path, const File& file) {
    const auto is_odd = [](char c) {
        return static_cast<unsigned char>(c) < 32 || c == 127 || c == '\\' || c == ':';
    };
    bool is_inside = file.path.size() <= path_bytes && std::none_of(file.path.begin(), file.path.end(), is_odd);
    for (std::size_t start = 0; is_inside && start <= file.path.size();) {
        const std::size_t end = std::min(file.path.find('/', start), file.path.size());
        const std::string part = file.path.substr(start, end - start);
        is_inside = !part.empty() && part != "." && part != "..";
        start = end + 1;
    }
    if (!is_inside) {
        throw BundleError(Kind::PathOutside, path,
                          quoted(file.path.substr(0, path_bytes + 1)) + " is not a path inside the bundle");
    }
}

const GraphFile* Manifest::find_graph(const std::string& name) const {
    const auto found = std::find_if(graphs.begin(), graphs.end(), [&](const auto& graph) { return graph.name == name; });
    return found == graphs.end() ? nullptr : &*found;
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
    check_names(path, "graphs", manifest.graphs);
    for (const GraphFile& graph : manifest.graphs) {
        check_names(path, "inputs of " + graph.name, graph.inputs);
        check_names(path, "outputs of " + graph.name, graph.outputs);
    }
    check_model(path, manifest.model);
    check_graphs(path, manifest);
    for (const File& file : manifest.files()) check_path(path, file);
    return manifest;
}

}  // namespace caflow::runtime
