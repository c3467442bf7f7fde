// The graphs of a bundle. Each graph is loaded when it is first needed, so sampling does not load graphs that only
// scoring uses.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "backend.hpp"
#include "bundle.hpp"
#include "engine_sets.hpp"
#include "settings.hpp"

namespace caflow::runtime {

// Any thread may use it.
class Graphs {
  public:
    // Read the manifest, check every file, and open a backend. Any other backend than the CPU must give the CPU's
    // results. Throws an InputError, a BundleError or a BackendError.
    Graphs(const std::filesystem::path& folder, const Settings& settings);

    const Manifest& manifest() const { return manifest_; }
    const std::string& backend() const { return backend_->name; }
    const std::optional<Profile>& profile() const { return profile_; }  // sizes that engines accept; none: any size
    bool has(const std::string& name) const { return manifest_.find_graph(name) != nullptr; }

    // Run a graph, and check its inputs and outputs. `place` says where outputs that only graphs read are left.
    Arrays run(const std::string& name, const Arrays& arrays, NoiseWindow place = NoiseWindow::device) const;

    // Free the memory that the backend keeps for later runs, and keep none from now on. Call this after memory ran out.
    void spare_memory() const;

    // See Backend::set_stopped.
    void set_stopped(bool stopped) {
        backend_->set_stopped(stopped);
        cpu_->set_stopped(stopped);
    }

    Array to_device(const Array& array) const { return backend_->to_device(array); }  // see Backend::to_device

  private:
    void open(const std::string& backend, Settings settings);
    void find_engines_for(const ProviderChoice& choice, std::int64_t pixel_budget);
    void check_results(const Settings& settings);
    const Graph& find(const std::string& name) const;
    void check_unchanged(const GraphFile& graph) const;

    std::filesystem::path folder_;  // absolute
    Manifest manifest_;
    std::shared_ptr<Backend> backend_;
    std::shared_ptr<Backend> cpu_;      // runs the graph degrade
    std::optional<EngineSet> engines_;  // finished engines, in place of the ONNX files
    std::optional<Profile> profile_;
    mutable std::mutex mutex_;
    mutable std::map<std::string, Graph> loaded_;        // references to entries stay valid
    mutable std::map<std::string, std::string> hashed_;  // states of files when they were hashed again, by path
};

}  // namespace caflow::runtime
