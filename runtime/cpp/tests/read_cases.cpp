// Reads many manifests and ONNX files in one process and prints how each was understood. Usage: read_cases FILE
//
// FILE contains the cases one after the other: the letter m (a manifest) or g (an ONNX file), the length of the text as
// eight bytes, lowest first, and the text. The program prints one line of JSON for each case: null if the case is
// refused, otherwise its contents.
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "bundle.hpp"
#include "errors.hpp"
#include "external_data.hpp"

using namespace caflow::runtime;
using nlohmann::json;

namespace {

json shown(const File& file) { return {file.path, file.bytes, file.sha256}; }

json shown(const std::vector<Port>& ports) {
    json all = json::array();
    for (const Port& port : ports) {
        json sizes = json::array();
        for (const Size& size : port.shape) std::visit([&](const auto& value) { sizes.push_back(value); }, size);
        all.push_back({port.name, port.type, sizes});
    }
    return all;
}

json shown(const Manifest& manifest) {
    const Model& model = manifest.model;
    json graphs = json::array(), weights = json::array();
    for (const GraphFile& graph : manifest.graphs) {
        graphs.push_back({graph.name, shown(graph.file), shown(graph.inputs), shown(graph.outputs)});
    }
    for (const File& file : manifest.weights) weights.push_back(shown(file));
    json inputs = json::array();
    for (const ModelInput& input : model.inputs) inputs.push_back({input.name, input.preparation});
    const json sampling{model.sampling.temperature, int(model.sampling.rank)};
    return {manifest.precision,       model.task,           model.description, model.condition_color,
            inputs,                   model.can_be_tiled,   sampling,          model.scale,
            model.size_multiple,      model.levels,         model.channels,    model.noise_channels,
            model.condition_channels, model.known_channels, graphs,            weights};
}

json meaning(char kind, std::string_view text) {
    try {
        if (kind == 'm') return shown(parse_manifest(text, "bundle/manifest.json"));
        json files = json::array();  // as lists of bytes, because names may be invalid UTF-8
        for (const std::string& file : external_files(text))
            files.push_back(std::vector<std::uint8_t>(file.begin(), file.end()));
        return files;
    } catch (const BundleError&) {
        return nullptr;
    } catch (const WrongGraph&) {
        return nullptr;
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) return 2;
    std::ifstream stream(arguments[1], std::ios::binary);
    const std::string cases(std::istreambuf_iterator<char>(stream), {});
    for (std::size_t position = 0; position < cases.size();) {
        std::uint64_t size = 0;
        for (std::size_t k = 8; k > 0; --k) size = size << 8 | static_cast<unsigned char>(cases[position + k]);
        std::cout << meaning(cases[position], std::string_view(cases).substr(position + 9, size)) << "\n";
        position += 9 + size;
    }
}
