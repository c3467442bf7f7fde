#include "bundle.hpp"

#include <algorithm>

#include "fields.hpp"
#include "manifest_checks.hpp"

namespace caflow::runtime {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t most_levels = 15;  // because 2^(levels + 1) divides size_multiple, which is at most 2^16
constexpr std::int64_t largest_size = (std::int64_t{1} << 31) - 1;

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

Sampling read_sampling(const Json& value, const std::string& where) {
    Fields fields(value, where);
    const double temperature = fields.number("temperature");
    if (temperature < 0) Fields::refuse("0 or more", fields["temperature"], fields.place("temperature"));
    const std::string rank = fields.text("rank", {"likelihood", "consistency", "typical"});
    fields.refuse_unknown();
    if (rank == "consistency") return {temperature, Rank::consistency};
    return {temperature, rank == "typical" ? Rank::typical : Rank::likelihood};
}

ModelInput read_input(const Json& value, const std::string& where) {
    Fields fields(value, where);
    const ModelInput input{fields.text("name", {"mask", "hints"}),
                           fields.text("preparation", {"fill", "propagate"})};
    fields.refuse_unknown();
    return input;
}

// Read the optional fields, which models that complete images have.
void read_completion(Fields& fields, Model& model) {
    const char* channels = "condition_channels";
    if (fields.has(channels)) {
        model.condition_channels = Fields::as_integer(fields[channels], fields.place(channels), 3, 4);
    }
    if (fields.has("known_channels")) {
        model.known_channels = fields.list("known_channels", [](const Json& channel, const std::string& place) {
            return Fields::as_integer(channel, place, 0, 2);
        });
    }
    if (fields.has("color_space")) fields.text("color_space", {"rgb", "ycbcr"});
    if (fields.has("reduction")) fields.count("reduction");
}

Model read_model(const Json& value, const std::string& where) {
    Fields fields(value, where);
    Model model;
    model.task = fields.text("task");
    model.description = fields.text("description");
    model.condition_color = fields.text("condition_color", {"rgb", "gray"});
    fields.boolean("keeps_gray");
    model.inputs = fields.list("inputs", read_input);
    model.can_be_tiled = fields.boolean("can_be_tiled");
    model.sampling = read_sampling(fields["sampling"], fields.place("sampling"));
    model.scale = fields.count("scale");
    model.size_multiple = fields.count("size_multiple");
    model.levels = Fields::as_integer(fields["levels"], fields.place("levels"), 1, most_levels);
    model.channels = fields.count("channels");
    fields.boolean("residual");
    fields.text("dependencies", {"unshared", "shared", "dual-glow"});
    model.noise_channels = fields.list("noise_channels", [](const Json& level, const std::string& place) {
        return Fields::list_of(level, place, Fields::as_count);
    });
    read_completion(fields, model);
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

}  // namespace

bool runs_per_image(const std::string& graph) { return graph == "encode" || graph == "estimate"; }

std::int64_t Model::cell_side(const std::string& graph) const {
    if (runs_per_image(graph)) return size_multiple;
    if (graph == degrade_graph) return scale;
    const auto level = [&] { return std::stoll(graph.substr(graph.rfind('_') + 1)); };  // names have been checked
    if (graph.starts_with("decode_") || graph.starts_with("likelihood_")) return noise_cell(level());
    if (graph.starts_with("reverse_") || graph.starts_with("forward_")) return noise_cell(level()) / 2;
    return 2;
}

const GraphFile* Manifest::find_graph(const std::string& name) const {
    const auto found =
        std::find_if(graphs.begin(), graphs.end(), [&](const auto& graph) { return graph.name == name; });
    return found == graphs.end() ? nullptr : &*found;
}

bool Manifest::reads_condition() const {
    const GraphFile* degrade = find_graph(degrade_graph);
    return degrade && std::any_of(degrade->inputs.begin(), degrade->inputs.end(),
                                  [](const Port& port) { return port.name == "condition"; });
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
    check_manifest(path, manifest);
    return manifest;
}

}  // namespace caflow::runtime
