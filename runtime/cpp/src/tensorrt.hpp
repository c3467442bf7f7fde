// Graphs as TensorRT engines of the bundle, on the GPU from the condition to what the host reads at the end.
//
// All engines share one memory for what they compute in between, as one runs after the other. A chain that comes with
// the same shapes a second time is recorded as a CUDA graph, and repeated from then on: small images take less time
// than their launches one by one.
#pragma once

#include <NvInferRuntime.h>

#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "backend.hpp"
#include "cuda_device.hpp"
#include "tensorrt_engine.hpp"
#include "tensorrt_library.hpp"
#include "tensorrt_recording.hpp"

namespace caflow::runtime {

class TensorRt : public Backend {
  public:
    // With a set of the bundle's engines that the device runs.
    TensorRt(std::shared_ptr<CudaDevice> device, EngineSet set, const Manifest& manifest);
    ~TensorRt() override;

    Graph load(const GraphFile& graph, const std::vector<std::string>& on_host) override;
    Array draw_noise(const LevelNoise& z) override;
    Arrays replay(const std::string& name, const Chain& run, const Arrays& given) override;

    // What TensorRT makes or does, if need be with all memory that is not in use given back.
    template <class Make>
    auto made(const std::string& what, Make make) {
        forget_errors_of_tensorrt();
        auto object = make();
        if (!object) {
            device->give_back();
            forget_errors_of_tensorrt();
            object = make();
        }
        if (!object) fail(what + ": " + name + " cannot run it: " + errors_of_tensorrt());
        return object;
    }

    // With the mutex held: the memory that all engines share, of at least so many bytes, and memory for an output.
    const DeviceMemory& activation(std::size_t bytes);
    std::shared_ptr<const DeviceTensor> output(const Shape& shape, Type type);

    bool is_capturing() const { return recording && recording->is_capturing; }

    const std::shared_ptr<CudaDevice> device;
    std::recursive_mutex mutex;      // held while streams are given work: contexts and the memory are everybody's
    Recording* recording = nullptr;  // the one that is being made

  private:
    std::unique_ptr<Recording> record(const std::string& key, const Chain& run, const Arrays& given);
    std::unique_ptr<Recording> take_recording(const std::string& key);
    void keep(std::size_t most);

    const EngineSet set_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::list<EngineGraph> graphs_;
    std::shared_ptr<DeviceMemory> activation_;
    std::set<std::string> seen_;        // chains and shapes that came once
    std::set<std::string> unrecorded_;  // that cannot be recorded, or only with memory that there is not
    std::list<std::unique_ptr<Recording>> recordings_;  // the last one first
};

}  // namespace caflow::runtime
