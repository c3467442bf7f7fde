#include "providers.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "errors.hpp"
#include "ports.hpp"

namespace caflow::runtime {

namespace {

constexpr std::int64_t rows_of_built_engines = 4;
constexpr int max_device = 255;
constexpr std::string_view prefix_of_plugins = "ort:";

// With TF32, the inverse functions of the flow would be inaccurate.
ProviderOptions cuda_options(const SessionNeeds& needs) {
    return {{"device_id", std::to_string(needs.device)}, {"use_tf32", "0"}};
}

ProviderOptions tensorrt_options(const SessionNeeds& needs) {
    ProviderOptions options{{"device_id", std::to_string(needs.device)}};
    if (!needs.cache.empty()) {
        options["trt_engine_cache_enable"] = "1";
        options["trt_engine_cache_path"] = needs.cache;
    }
    if (!needs.shapes.largest.empty()) {
        options["trt_profile_min_shapes"] = needs.shapes.smallest;
        options["trt_profile_opt_shapes"] = options["trt_profile_max_shapes"] = needs.shapes.largest;
    }
    return options;
}

ProviderOptions tensorrt_rtx_options(const SessionNeeds& needs) {
    ProviderOptions options;  // the number of the device chooses the plug-in's device
    if (!needs.cache.empty()) options["nv_runtime_cache_path"] = needs.cache;
    if (!needs.shapes.largest.empty()) {
        options["nv_profile_min_shapes"] = needs.shapes.smallest;
        options["nv_profile_opt_shapes"] = options["nv_profile_max_shapes"] = needs.shapes.largest;
    }
    return options;
}

// Where OpenVINO finds instructions for bfloat16, it computes float32 graphs with them by default.
ProviderOptions openvino_options(const SessionNeeds& needs) {
    const std::string precision = R"("INFERENCE_PRECISION_HINT":"f32")";
    const std::string threads =
        needs.threads ? R"(,"INFERENCE_NUM_THREADS":")" + std::to_string(needs.threads) + "\"" : "";
    return {{"load_config", R"({"CPU":{)" + precision + threads + R"(},"GPU":{)" + precision + "}}"}};
}

ProviderOptions no_options(const SessionNeeds&) { return {}; }

constexpr const char* of_a_plugin = "set plugin_library to the library of this provider, and install its driver";

const std::array<Provider, 5>& table() {
    static const auto& rows = *new std::array<Provider, 5>{{
        {.backend = "cpu",
         .name = "CPUExecutionProvider",
         .requirements = "",
         .engines = "",
         .is_plugin = false,
         .has_tf32_option = true,
         .options = no_options},
        {.backend = "cuda",
         .name = "CUDAExecutionProvider",
         .requirements = "link the library of the package onnxruntime-gpu, and install an NVIDIA driver, CUDA 13 and "
                         "cuDNN 9",
         .engines = "",
         .is_plugin = false,
         .has_tf32_option = true,
         .options = cuda_options},
        {.backend = "tensorrt",
         .name = "TensorrtExecutionProvider",
         .requirements = "link the library of the package onnxruntime-gpu, and install an NVIDIA driver, CUDA 13, "
                         "cuDNN 9 and TensorRT 10",
         .engines = "tensorrt",
         .is_plugin = false,
         .has_tf32_option = false,
         .options = tensorrt_options},
        {.backend = "tensorrt-rtx",
         .name = "NvTensorRTRTXExecutionProvider",
         .requirements = "install an NVIDIA driver, and set plugin_library to the library of the package "
                         "onnxruntime-ep-nv-tensorrt-rtx-cu13",
         .engines = "rtx",
         .is_plugin = true,
         .has_tf32_option = false,
         .options = tensorrt_rtx_options},
        {.backend = "ort:openvino",
         .name = "OpenVINOExecutionProvider",
         .requirements = of_a_plugin,
         .engines = "",
         .is_plugin = true,
         .has_tf32_option = true,
         .options = openvino_options},
    }};
    return rows;
}

std::string short_name(std::string name) {
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    const std::string suffix = "executionprovider";
    return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name;
}

// Remove the number of the device from the end of a backend's name, and return it: 1 for "cuda:1", 0 for "cuda".
int take_device(std::string& backend) {
    const std::size_t digits = backend.find_last_not_of("0123456789") + 1;
    if (digits == backend.size() || digits < 2 || backend[digits - 1] != ':') return 0;
    const std::string number = backend.substr(digits);
    if (number.size() > 3 || std::stoi(number) > max_device) {
        throw InputError("backend: the number of the device must be from 0 to " + std::to_string(max_device) +
                         "; got " + number);
    }
    backend.resize(digits - 1);
    return std::stoi(number);
}

std::string text_of(const GraphFile& graph, const Sizes& sizes) {
    std::string text;
    for (const Port& port : graph.inputs) {
        text += (text.empty() ? "" : ",") + port.name + ":";
        for (std::size_t k = 0; k < port.shape.size(); ++k) {
            text += (k ? "x" : "") + std::to_string(size_of(port.shape[k], sizes));
        }
    }
    return text;
}

}  // namespace

std::string ProviderChoice::backend() const { return provider.backend + (device ? ":" + std::to_string(device) : ""); }

ProviderChoice choose_provider(const std::string& backend) {
    std::string name = backend;
    const int device = take_device(name);
    for (const Provider& row : table()) {
        if (row.backend == name && (device == 0 || name != "cpu")) return {row, device};
    }
    if (name.starts_with(prefix_of_plugins) && name.size() > prefix_of_plugins.size()) {
        const std::string provider = name.substr(prefix_of_plugins.size());
        for (const Provider& row : table()) {
            if (row.is_plugin && is_same_provider(row.name, provider)) return {row, device};
        }
        return {{name, provider, of_a_plugin, "", true, true, no_options}, device};
    }
    std::string known = "auto";
    for (const Provider& row : table()) known += ", " + row.backend;
    throw InputError("backend must be one of " + known +
                     ", or ort:NAME for the provider of a plug-in library, with "
                     "the number of a device at the end, such as cuda:1, if it is not the first; got '" +
                     backend + "'");
}

const Provider& cuda_provider() { return table()[1]; }

bool is_same_provider(const std::string& one, const std::string& other) { return short_name(one) == short_name(other); }

ShapeRange shapes_of(const GraphFile& graph, const Model& model, const Profile& profile) {
    const std::int64_t cell = model.cell_side(graph.name);
    const auto text = [&](const Profile& sizes) {
        return text_of(graph, {{"items", sizes.batch_size},
                               {"images", sizes.batch_size},
                               {"h", sizes.height / cell},
                               {"w", sizes.width / cell}});
    };
    return {text({1, model.size_multiple, model.size_multiple}), text(profile)};
}

Profile profile_for(const Model& model, std::int64_t pixel_budget) {
    const auto largest = std::int64_t(std::sqrt(double(pixel_budget / rows_of_built_engines)));
    const std::int64_t side = std::max(model.size_multiple, largest / model.size_multiple * model.size_multiple);
    return {rows_of_built_engines, side, side};
}

}  // namespace caflow::runtime
