#include "graphs.hpp"

#include <new>

#include "errors.hpp"
#include "nvidia_libraries.hpp"
#include "parity.hpp"
#include "ports.hpp"
#include "level_chain.hpp"

namespace caflow::runtime {

namespace fs = std::filesystem;

namespace {

// Return the outputs of a graph that the host reads: log-likelihood maps, final pixels, and latents of existing
// targets.
std::vector<std::string> outputs_on_host(const std::string& graph) {
    if (graph.starts_with("reverse_")) return {"log_likelihood_map", "pixels"};
    if (graph.starts_with("likelihood_")) return {"log_likelihood_map", "z"};
    return {"log_likelihood_map"};
}

// Return the settings of the CPU beside another backend.
Settings on_cpu(const Settings& settings) {
    Settings cpu;
    cpu.backend = "cpu";
    cpu.threads = settings.threads;
    return cpu;
}

// Return the folder for what a provider compiles for one bundle, below the folder that the application named, and
// create it. Providers name files after graphs, whose names are the same in all bundles.
std::string folder_for_engines(const fs::path& engine_cache, const fs::path& bundle) {
    std::error_code failed;
    const fs::path folder = fs::absolute(engine_cache, failed) / sha256_of(bundle / "manifest.json");
    if (!failed) fs::create_directories(folder, failed);
    if (failed) {
        throw InputError("engine_cache: cannot create the folder " + folder.string() + ": " + failed.message() +
                         ": choose a folder in which this process may write");
    }
    return folder.string();
}

}  // namespace

Graphs::Graphs(const fs::path& folder, const Settings& settings) {
    if (settings.backend != "auto") choose_provider(settings.backend);  // a wrong name is reported first
    manifest_ = read_manifest(folder);
    verify_files(folder, manifest_);
    // Graphs are loaded later, when the process may have another working directory.
    folder_ = fs::absolute(folder / "manifest.json").parent_path();
    if (settings.backend != "auto") {
        open(settings.backend, settings);
        return;
    }
    try {
        open("cuda", settings);
    } catch (const BackendError&) {
        loaded_.clear();
        open("cpu", settings);
    }
}

void Graphs::open(const std::string& backend, Settings settings) {
    const ProviderChoice choice = choose_provider(backend);
    settings.engine_cache = settings.engine_cache.empty() || choice.provider.engines.empty()
                                ? ""
                                : folder_for_engines(settings.engine_cache, folder_);
    backend_ = open_onnx_runtime(choice, settings);
    cpu_ = backend == "cpu" ? backend_ : open_onnx_runtime(choose_provider("cpu"), on_cpu(settings));
    find_engines_for(choice, settings.pixel_budget);
    if (backend != "cpu") check_results(settings);
}

// Find the finished engines, or the sizes for which the provider builds its own engines, if it runs engines.
void Graphs::find_engines_for(const ProviderChoice& choice, std::int64_t pixel_budget) {
    const std::string& flavor = choice.provider.engines;
    if (flavor.empty()) return;
    const Gpu gpu = describe_gpu(choice.device);
    const std::string version = version_of_loaded(flavor == "rtx" ? "libtensorrt_rtx.so.1" : "libnvinfer.so.10");
    engines_ = find_engines(folder_, manifest_, {flavor, version, gpu.compute_capability, gpu.name});
    profile_ = engines_ ? engines_->profile : profile_for(manifest_.model, pixel_budget);
}

// Check that the backend computes what the CPU computes. Only then is it known that the device works, because many of
// its errors occur when a graph is loaded or run.
void Graphs::check_results(const Settings& settings) {
    try {
        check_parity(*this, Graphs(folder_, on_cpu(settings)));
    } catch (const BundleError& error) {
        throw BackendError(error.what());
    } catch (const OutOfMemory& error) {
        throw BackendError(error.what());
    }
}

Arrays Graphs::run(const std::string& name, const Arrays& arrays, NoiseWindow place) const {
    const GraphFile& graph = *manifest_.find_graph(name);
    const fs::path path = folder_ / graph.file.path;
    Sizes sizes;
    check_inputs(graph, arrays, sizes, path);
    Arrays results = find(name)(arrays, place);
    check_outputs(graph, results, sizes, path);
    return results;
}

const Graph& Graphs::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    if (const auto found = loaded_.find(name); found != loaded_.end()) return found->second;
    const GraphFile& graph = *manifest_.find_graph(name);
    GraphSource source{folder_ / graph.file.path, "", {}, outputs_on_host(name)};
    const bool is_on_cpu = name == degrade_graph;  // images are compared on the CPU, at any size
    if (engines_ && !is_on_cpu) {
        source.engine = read_engine(*engines_, name);
        source.path = engines_->folder / engines_->engines.at(name).path;
        return loaded_.emplace(name, backend_->load(source)).first->second;
    }
    if (profile_ && !is_on_cpu) source.shapes = shapes_of(graph, manifest_.model, *profile_);
    Graph loaded;
    try {
        loaded = (is_on_cpu ? cpu_ : backend_)->load(source);
    } catch (...) {
        check_unchanged(graph);  // a file that has changed is the reason
        throw;
    }
    check_unchanged(graph);
    return loaded_.emplace(name, std::move(loaded)).first->second;
}

// Check that the files that the backend has just read are those that were checked when the bundle was opened. The
// results would otherwise be wrong, without an error. The weights, which all graphs share, are hashed at the first
// graph, and then only if they were written to. Throws a BundleError.
void Graphs::check_unchanged(const GraphFile& graph) const {
    std::vector<File> files = manifest_.weights;
    files.push_back(graph.file);
    for (const File& file : files) {
        const std::string state = file_state(folder_ / file.path);
        std::string& hashed = hashed_[file.path];
        if (!state.empty() && state == hashed) continue;
        verify_file(folder_, file, "has changed since the bundle was opened", "open the bundle again");
        hashed = state;
    }
}

void Graphs::spare_memory() const {
    if (!backend_->spare_memory()) return;
    // The backend frees memory at the end of a run, so run the smallest input that there is.
    const Model& model = manifest_.model;
    const std::int64_t side = model.size_multiple / model.scale, channels = model.condition_channels;
    try {
        encode(*this, make_array({1, side, side, channels}, std::vector<std::uint8_t>(channels * side * side)));
    } catch (const OutOfMemory&) {
        return;  // the next run that fits frees the memory
    } catch (const std::bad_alloc&) {
        return;
    }
}

}  // namespace caflow::runtime
