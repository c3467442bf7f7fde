#include "tensorrt.hpp"

#include <algorithm>
#include <fstream>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

constexpr std::size_t most_recordings = 8, most_seen = 1000;

std::string key_of(const std::string& name, const Arrays& given) {
    std::string key = name;
    for (const auto& [input, array] : given) {
        key += " " + input;
        for (const std::int64_t side : array->shape) key += "," + std::to_string(side);
    }
    return key;
}

}  // namespace

std::unique_ptr<Backend> open_tensorrt(const std::filesystem::path& folder, const Manifest& manifest) {
    const auto device = std::make_shared<CudaDevice>();
    const Machine machine{flavor_of_headers, tensorrt_library().version, device->compute_capability(), device->name()};
    return std::make_unique<TensorRt>(device, find_engines(folder, manifest, machine), manifest);
}

TensorRt::TensorRt(std::shared_ptr<CudaDevice> device, EngineSet set, const Manifest& manifest)
    : Backend((set.flavor == "rtx" ? "tensorrt-rtx " : "tensorrt ") + manifest.precision + " on " + device->name(),
              set.profiles),
      device(std::move(device)),
      set_(std::move(set)) {
    runtime_ = made(name, [] {
        void* runtime = tensorrt_library().create_runtime(&tensorrt_log(), NV_TENSORRT_VERSION);
        return std::unique_ptr<nvinfer1::IRuntime>(static_cast<nvinfer1::IRuntime*>(runtime));
    });
    this->device->set_spare([this] {
        // Do not wait for the mutex: the thread that holds it may be waiting for this thread.
        if (const std::unique_lock lock(mutex, std::try_to_lock); lock) keep(0);
    });
}

TensorRt::~TensorRt() {
    device->set_spare([] {});  // existing results may keep the device alive
}

Graph TensorRt::load(const GraphFile& graph, const std::vector<std::string>&) {
    const auto found = set_.engines.find(graph.name);
    const std::string build_again = "build the engines again with caflow-export --trt";
    if (found == set_.engines.end()) {
        throw BackendError(set_.folder.string() + " has no engine for " + graph.name + ": " + build_again);
    }
    const std::filesystem::path path = set_.folder / found->second.path;
    std::string plan(std::size_t(found->second.bytes), '\0');
    std::ifstream stream(path, std::ios::binary);
    if (!stream.read(plan.data(), std::streamsize(plan.size())) ||
        sha256_of(std::string_view(plan)) != found->second.sha256) {
        throw BackendError(path.string() + " is damaged, or was built again since the bundle was opened: open the bundle again; if "
                           "that fails, " + build_again);
    }
    const FirstGpu first;
    EngineGraph& engine = graphs_.emplace_back(*this, *runtime_, plan, path.string());
    return [&engine](const Arrays& arrays, Place) { return engine.run(arrays); };
}

const DeviceMemory& TensorRt::activation(std::size_t bytes) {
    if (!activation_ || activation_->bytes < bytes) {
        activation_.reset();  // free the old memory first, unless a recording still uses it
        activation_ = device->allocate(bytes);
    }
    return *activation_;
}

std::shared_ptr<const DeviceTensor> TensorRt::output(const Shape& shape, Type type) {
    const auto tensor = std::make_shared<const DeviceTensor>(device, shape, type);
    if (recording && recording->is_capturing) recording->kept.push_back(tensor);
    return tensor;
}

Array TensorRt::draw_noise(const LevelNoise& z) { return device->draw_rows(z); }

Arrays TensorRt::replay(const std::string& name, const Chain& run, const Arrays& given) {
    const std::string key = key_of(name, given);
    std::string failure;
    {
        const std::lock_guard lock(mutex);
        if (!seen_.contains(key)) {  // recording pays off at the second run; the first run sets up the engines
            if (seen_.size() == most_seen) {
                seen_.clear();
                unrecorded_.clear();
            }
            seen_.insert(key);
        } else if (!unrecorded_.contains(key)) {
            const FirstGpu first;
            try {
                auto recorded = take_recording(key);
                if (!recorded) recorded = record(key, run, given);
                Arrays outputs = recorded->repeat(given);
                recordings_.push_front(std::move(recorded));
                keep(most_recordings);
                return outputs;
            } catch (const OutOfMemory&) {
                unrecorded_.insert(key);
            } catch (const BackendError& error) {
                unrecorded_.insert(key);
                failure = error.what();
            }
        }
    }
    Arrays outputs = run(given);  // an error of the chain itself occurs again here
    if (!failure.empty()) warn(failure);
    return outputs;
}

// Set the warning, unless there is one already.
void TensorRt::warn(const std::string& reason) {
    std::call_once(warned_, [&] {
        warning_text_ = name + " runs without CUDA graphs: " + reason;
        warning_ = warning_text_.c_str();
    });
}

// Keep only the most recently used recordings.
void TensorRt::keep(std::size_t most) {
    while (recordings_.size() > most) {
        unrecorded_.insert(recordings_.back()->key);  // otherwise many shapes in turn would be recorded repeatedly
        recordings_.pop_back();
    }
}

// Remove a recording from the list and return it, or nullptr if there is none.
std::unique_ptr<Recording> TensorRt::take_recording(const std::string& key) {
    const auto found = std::find_if(recordings_.begin(), recordings_.end(), [&](auto& one) { return one->key == key; });
    if (found == recordings_.end()) return nullptr;
    auto recorded = std::move(*found);
    recordings_.erase(found);
    return recorded;
}

std::unique_ptr<Recording> TensorRt::record(const std::string& key, const Chain& run, const Arrays& given) {
    auto made = std::make_unique<Recording>(device, key);
    recording = made.get();
    struct Reset {  // also if an exception is thrown
        ~Reset() { recording = nullptr; }
        Recording*& recording;
    } reset{recording};
    do {  // run without recording, to set up the contexts and to find the size of the activation memory
        made->activation = activation_;
        run(given);
    } while (made->activation != activation_);
    made->capture(run, given);
    return made;
}

}  // namespace caflow::runtime
