#include "graphs.hpp"

#include "errors.hpp"
#include "ports.hpp"

namespace caflow::runtime {

namespace {

const std::map<std::string, Provider> providers{
    {"cpu", Provider::cpu}, {"cuda", Provider::cuda}, {"tensorrt-provider", Provider::tensorrt}};

// Return the outputs of a graph that the host reads: shares, final pixels, and latents of existing targets.
std::vector<std::string> outputs_on_host(const std::string& graph) {
    if (graph.starts_with("reverse_")) return {"share", "pixels"};
    if (graph.starts_with("likelihood_")) return {"share", "z"};
    return {"share"};
}

}  // namespace

Graphs::Graphs(std::filesystem::path folder, const std::string& backend, int threads, const std::string& engine_cache)
    : folder_(std::move(folder)) {
    if (backend != "auto" && backend != "tensorrt" && !providers.contains(backend)) {
        throw InputError("backend must be one of auto, cpu, cuda, tensorrt, tensorrt-provider; got '" + backend + "'");
    }
    manifest_ = read_manifest(folder_);
    verify_files(folder_, manifest_);
    std::string engines;
    if (!engine_cache.empty()) {
        // Use one folder per bundle: ONNX Runtime names engines after graphs, whose names are the same in all bundles.
        engines = (std::filesystem::path(engine_cache) / sha256_of(folder_ / "manifest.json")).string();
    }
    if (backend != "auto") {
        open(backend, threads, engines);
        return;
    }
    try {
        open("cuda", threads, engines);
    } catch (const BackendError&) {
        open("cpu", threads, engines);
    }
}

void Graphs::open(const std::string& backend, int threads, const std::string& engine_cache) {
    backend_ = backend == "tensorrt" ? open_tensorrt(folder_, manifest_)
                                     : open_onnx_runtime(folder_, providers.at(backend), threads, engine_cache);
    if (backend == "cpu") return;
    try {
        find("encode");  // only loading a graph shows whether the GPU works
    } catch (const BundleError& error) {
        throw BackendError(error.what());
    } catch (const OutOfMemory& error) {
        throw BackendError(error.what());
    }
}

Arrays Graphs::run(const std::string& name, const Arrays& arrays, Place place) const {
    const GraphFile& graph = *manifest_.find_graph(name);
    const std::filesystem::path path = folder_ / graph.file.path;
    Sizes sizes;
    check_inputs(graph, arrays, sizes, path);
    Arrays results = find(name)(arrays, place);
    check_outputs(graph, results, sizes, path);
    return results;
}

const Graph& Graphs::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    if (const auto found = loaded_.find(name); found != loaded_.end()) return found->second;
    return loaded_.emplace(name, backend_->load(*manifest_.find_graph(name), outputs_on_host(name))).first->second;
}

}  // namespace caflow::runtime
