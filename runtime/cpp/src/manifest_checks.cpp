#include "manifest_checks.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "errors.hpp"

namespace caflow::runtime {

namespace fs = std::filesystem;
using Kind = BundleError::Kind;

namespace {

constexpr const char* format = "caflow-bundle";
constexpr int format_version = 3;
constexpr std::size_t path_bytes = 255;  // longest path: common file systems limit a file name to this
constexpr std::int64_t degradation_values = 13;
constexpr const char* map_output = "log_likelihood_map";  // of every graph of a level
constexpr std::size_t axes = 4, map_axes = 3;             // of arrays that graphs pass on, and of log-likelihood maps

std::string quoted(const std::string& text) { return "'" + text + "'"; }

// Check that the model's numbers fit each other.
void check_model(const fs::path& path, const Model& model) {
    const std::int64_t squeezed = std::int64_t{1} << (model.levels + 1);
    if (model.size_multiple % squeezed || model.size_multiple % model.scale) {
        throw BundleError(Kind::WrongManifest, path,
                          "with " + std::to_string(model.levels) + " levels and a scale of " +
                              std::to_string(model.scale) + ", size_multiple must be a multiple of " +
                              std::to_string(squeezed) + " and of " + std::to_string(model.scale) + "; got " +
                              std::to_string(model.size_multiple));
    }
    if (model.condition_channels > 3 && (model.scale > 1 || model.condition_color != "rgb")) {
        throw BundleError(Kind::WrongManifest, path,
                          "a model with 4 condition_channels must have the scale 1 and the condition_color 'rgb'; got " +
                              std::to_string(model.scale) + " and " + quoted(model.condition_color));
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
        {degrade_graph, {{"degraded", floats}}},
        {"dequantize", {{"pixels", floats}, {map_output, floats}}},
    };
    for (std::int64_t j = 0; j < levels; ++j) {
        const std::string level = "_" + std::to_string(j);
        outputs["decode" + level] = {{"latent", floats}, {map_output, floats}};
        outputs["reverse" + level] = {{j == levels - 1 ? "pixels" : "next_carry", floats}, {map_output, floats}};
        outputs["forward" + level] = {{"latent", floats}, {map_output, floats}};
        if (j > 0) outputs["forward" + level]["next_carry"] = floats;
        outputs["likelihood" + level] = {{"z", floats}, {map_output, floats}};
    }
    return outputs;
}

// Check an output that the chain reads: its type, its number of sizes and its first size, which are the same for all
// models.
void check_output(const fs::path& path, const GraphFile& graph, const std::string& name, const std::string& type) {
    const Size first = runs_per_image(graph.name) || graph.name == degrade_graph ? "images" : "items";
    const std::size_t count = name == map_output ? map_axes : axes;
    const auto found =
        std::find_if(graph.outputs.begin(), graph.outputs.end(), [&](const Port& port) { return port.name == name; });
    if (found != graph.outputs.end() && found->type == type && found->shape.size() == count &&
        found->shape[0] == first) {
        return;
    }
    throw BundleError(Kind::WrongShape, path,
                      "the graph " + graph.name + " must have the output " + name + " of type " + type + " with " +
                          std::to_string(count) + " sizes, the first of them " + quoted(std::get<std::string>(first)) +
                          "; got " + (found == graph.outputs.end() ? "None" : found->type + " " + shown(found->shape)));
}

void check_graphs(const fs::path& path, const Manifest& manifest) {
    const Model& model = manifest.model;
    for (const std::string& name : graph_names(model.levels)) {
        if (manifest.find_graph(name)) continue;
        throw BundleError(Kind::MissingGraph, path,
                          "a model with " + std::to_string(model.levels) + " levels requires the graph " +
                              quoted(name) + ", which is not listed");
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
        check_port(path, manifest.find_graph(decode)->inputs, decode, "z", {"items", channels, "h", "w"});
    }
    const std::string finest = "reverse_" + std::to_string(model.levels - 1);
    const auto pixels = std::vector<Size>{"items", "2*h", "2*w", model.channels};
    check_port(path, manifest.find_graph(finest)->outputs, finest, "pixels", pixels);
    const auto images = [](std::int64_t factor, std::int64_t channels) {
        const std::string times = factor > 1 ? std::to_string(factor) + "*" : "";
        return std::vector<Size>{"images", times + "h", times + "w", channels};
    };
    const std::vector<Size> condition = images(model.size_multiple / model.scale, model.condition_channels);
    check_port(path, manifest.find_graph("encode")->inputs, "encode", "condition", condition);
    if (const GraphFile* estimate = manifest.find_graph("estimate")) {  // it is optional
        const auto degradation = std::vector<Size>{"images", degradation_values};
        check_port(path, estimate->inputs, "estimate", "condition", condition);
        check_port(path, estimate->outputs, "estimate", "degradation", degradation);
        check_port(path, manifest.find_graph("encode")->inputs, "encode", "degradation", degradation);
    }
    if (const GraphFile* degrade = manifest.find_graph(degrade_graph)) {  // of any size that the scale divides
        check_port(path, degrade->inputs, degrade_graph, "target", images(model.scale, model.channels));
        if (manifest.reads_condition()) {
            check_port(path, degrade->inputs, degrade_graph, "condition", images(1, model.condition_channels));
        }
    }
    for (const auto& [name, outputs] : needed_outputs(model.levels)) {
        if (const GraphFile* graph = manifest.find_graph(name)) {  // dequantize and degrade are optional
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
    const auto is_odd = [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127 || c == '\\' || c == ':'; };
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

void check_manifest(const fs::path& path, const Manifest& manifest) {
    check_names(path, "graphs", manifest.graphs);
    for (const GraphFile& graph : manifest.graphs) {
        check_names(path, "inputs of " + graph.name, graph.inputs);
        check_names(path, "outputs of " + graph.name, graph.outputs);
    }
    check_model(path, manifest.model);
    check_graphs(path, manifest);
    for (const File& file : manifest.files()) check_path(path, file);
}

}  // namespace caflow::runtime
